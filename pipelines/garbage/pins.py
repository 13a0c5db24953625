"""The models that overlays and a cluster name: a roll-out, or its undoing, fetches them from the store again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.collect_garbage.items import reference
from components.errors import RecipeError
from pipelines.cluster.deploy.pin import ANNOTATION, NO_MODEL, PINNED
from pipelines.cluster.deploy.workloads import MODEL_ANNOTATION
from pipelines.cluster.kubectl import ForbiddenError, Kubectl

WORKLOADS = "deployments.apps,replicasets.apps"
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


def pins_of_overlays(overlays: Iterable[Path]) -> dict[str, str]:
    """The references of the models that overlays pin, with the reason.

    Raises:
        RecipeError: a folder is no overlay, or what it pins cannot be read.
    """
    return {
        reference("model", sha256): f"pinned by the overlay {overlay}"
        for overlay in overlays
        for sha256 in _models_in(overlay)
    }


def _models_in(overlay: Path) -> Iterable[str]:
    folder = overlay / PINNED
    if not (folder / "kustomization.yaml").is_file():
        raise RecipeError(f"--overlay {overlay}: has no folder {PINNED}/; give the folder of an overlay")
    for path in sorted(folder.glob("*.yaml")):
        document = _load(path)
        for patch in document if isinstance(document, list) else ():
            value = patch.get("value") if isinstance(patch, dict) and patch.get("path") == ANNOTATION else None
            if value is None or value == NO_MODEL:
                continue
            if not isinstance(value, str) or not _SHA256.match(value):
                raise RecipeError(f"{path}: pins {value!r}, which is no sha256; pin the overlay again")
            yield value


def _load(path: Path) -> Any:
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"{path}: cannot be read ({reason}); correct it, or pin the overlay again") from None


def namespaces_of(overlays: Iterable[Path]) -> list[str]:
    """The namespaces in which overlays put their servers, where their kustomizations name them."""
    paths = [overlay / "kustomization.yaml" for overlay in overlays]
    found = [_load(path) for path in paths if path.is_file()]
    return list(dict.fromkeys(str(one["namespace"]) for one in found if isinstance(one, dict) and one.get("namespace")))


def pins_on_cluster(kubectl: Kubectl, namespaces: Sequence[str] = ()) -> tuple[dict[str, str], str]:
    """The references of the models that Deployments and ReplicaSets of a cluster name, with the reason; and where.

    Where the user may not see the whole cluster, ``namespaces`` alone are read.

    Raises:
        ForbiddenError: the user may not read them there either.
        ClusterError: the cluster does not answer.
    """
    try:
        found, where = kubectl.get(WORKLOADS, "--all-namespaces")["items"], "in all namespaces"
    except ForbiddenError:
        if not namespaces:
            raise
        found = [one for name in namespaces for one in kubectl.in_namespace(name).get(WORKLOADS)["items"]]
        where = f"in {', '.join(namespaces)} alone (no right to the others)"
    pins: dict[str, str] = {}
    # A Deployment says more than its ReplicaSets, which `kubectl rollout undo` goes back to.
    for one in sorted(found, key=lambda one: str(one["kind"]), reverse=True):
        for sha256 in _annotated(one):
            meta = one["metadata"]
            undo = "" if one["kind"] == "Deployment" else ", which kubectl rollout undo goes back to"
            pins[reference("model", sha256)] = f"served by {one['kind']} {meta['namespace']}/{meta['name']}{undo}"
    return pins, where


def _annotated(deployment: Mapping[str, Any]) -> Iterable[str]:
    template = deployment.get("spec", {}).get("template", {})
    sha256 = (template.get("metadata", {}).get("annotations") or {}).get(MODEL_ANNOTATION)
    return [sha256] if sha256 and sha256 != NO_MODEL else []
