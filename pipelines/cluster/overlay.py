"""An overlay as ``kubectl kustomize`` renders it: what ``kubectl apply -k`` would send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from components.errors import ClusterError, RecipeError
from pipelines.cluster.deploy.pin import PINNED
from pipelines.cluster.kubectl import Kubectl

Manifest = dict[str, Any]
# The registry of images before the first `lorry pin`.
UNPINNED = "unpinned.invalid/"


@dataclass(frozen=True)
class Overlay:
    """The objects of one kustomization and the namespace that they are in."""

    folder: Path
    namespace: str
    objects: tuple[Manifest, ...]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        """The objects of these kinds."""
        return [one for one in self.objects if one["kind"] in kinds]

    def pod_templates(self) -> Iterator[tuple[str, Manifest]]:
        """The spec of every pod, by the name of the object that makes it."""
        for one in self.objects:
            if one["kind"] == "Pod":
                yield one["metadata"]["name"], one["spec"]
            elif "template" in one.get("spec", {}):
                yield one["metadata"]["name"], one["spec"]["template"]["spec"]

    def images(self) -> list[str]:
        """Every image that its pods name, sorted."""
        return sorted({container["image"] for _, pod in self.pod_templates() for container in containers_of(pod)})


def is_unpinned(overlay: Overlay) -> bool:
    """Whether it still names the images of an overlay that `lorry pin` has not written yet."""
    return any(image.startswith(UNPINNED) for image in overlay.images())


def containers_of(pod: Manifest) -> list[Manifest]:
    """Init containers and containers of a pod's spec."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def load_overlay(kubectl: Kubectl, folder: Path) -> Overlay:
    """Render an overlay that ``lorry pin`` has a folder in.

    Raises:
        RecipeError: the folder is no overlay, has no ``pinned/``, or does not render.
    """
    if not (folder / "kustomization.yaml").is_file():
        raise RecipeError(
            f"{folder}: no overlay (no kustomization.yaml); name a folder such as manifests/overlays/local"
        )
    if not (folder / PINNED / "kustomization.yaml").is_file():
        raise RecipeError(
            f"{folder / PINNED}: no such folder; copy it from manifests/overlays/local, then: lorry pin {folder}"
        )
    return render(kubectl, folder)


def render(kubectl: Kubectl, folder: Path) -> Overlay:
    """Render a kustomization.

    Raises:
        RecipeError: it does not render, or its objects are in several namespaces or in none.
    """
    try:
        text = kubectl.run("kustomize", str(folder))
    except ClusterError as error:
        raise RecipeError(str(error)) from error
    objects = tuple(YAML(typ="safe").load_all(text))
    namespaces = {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]}
    if len(namespaces) > 1:
        raise RecipeError(f"{folder}: its objects are in several namespaces: {', '.join(sorted(namespaces))}; use one")
    if not namespaces:
        raise RecipeError(
            f"{folder}: its objects are in no namespace; write `namespace: NAME` into its kustomization.yaml"
        )
    return Overlay(folder, namespaces.pop(), objects)
