"""Pinning images and model of an overlay: the files in its folder ``pinned/``."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from components.errors import RecipeError
from components.storage.published_models import current, has_current, published, require_manifest
from components.storage.store import Store, in_bucket
from pipelines.cluster.deploy.pin_image import file_of, image_of_model, repository_of, volume_patch, volume_problem
from pipelines.config.addresses import claim_of, pod_path
from pipelines.graph.images import PREFIX, load_settings, reference

PINNED = "pinned"
# The images that the manifests use.
SERVED = ("data", "model-server", "chat")
ANNOTATION = "/spec/template/metadata/annotations/lorry~1model-sha256"
NO_MODEL = "0" * 64
_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
# As status, gc and kubectl's tables show them.
_BEGINNING = re.compile(r"^[0-9a-f]{6,63}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


def pin_overlay(
    overlay: Path, sha256: str | None, store: str | None, server: str = "model-server", oci: str | None = None
) -> list[str]:
    """Write images and model into ``overlay/pinned``; give what now stands there, a line each.

    With a store the model must be in it, and is its newest when ``sha256`` is None. With neither, it stays as it was.
    ``oci`` is the repository of a registry that has the model as an image; later models come from there too.

    Raises:
        RecipeError: the folder is no overlay that can be pinned, or the digest is none.
        ModelError: the store or the repository has no such model.
        StoreError: the store or the registry refuses or does not answer.
    """
    if not _NAME.match(server):
        raise RecipeError(f"--server {server}: not the name of a Deployment")
    folder = overlay / PINNED
    if not (folder / "kustomization.yaml").is_file():
        raise RecipeError(f"{folder}: no such folder; copy it from manifests/overlays/local into your overlay")
    later = _comes_later(store) if store is not None and sha256 is None else None
    model = (None if later else _wanted(sha256, store)) or _pinned_model(folder, server)
    settings = load_settings()
    references = {name: reference(name, settings) for name in SERVED}
    before = {path: path.read_text() for path in folder.iterdir() if path.is_file()}
    image = write_pinned(folder, references, server, model, oci)
    _require_deployment(overlay, server, before)
    looked = "" if store or sha256 is None else " (not checked: no --store)"
    served = f"the model {model}{looked}" if model != NO_MODEL else "no model yet: pin one with --model or --store"
    served += f", as the image {image}" if image else ""
    if later:
        kept = "" if model == NO_MODEL else f"; the overlay keeps the model {model}"
        served = f"{store} {later[0]}{kept}; {later[1]}"
    return [*references.values(), f"{server}: {served}"]


def write_pinned(
    folder: Path, references: Mapping[str, str], server: str, model: str | None, oci: str | None = None
) -> str | None:
    """Write into ``pinned/`` the images, full references by their names (``model-server``), and a server's model; the
    other images stay, and so do the models if ``model`` is None. Where a registry has the models as images, give that
    of the model: ``repository@digest``.
    """
    image = _model_image(folder, server, oci, model)
    document = _read(folder / "kustomization.yaml")
    others = [one for one in document.get("images", []) if one["name"].removeprefix(PREFIX) not in references]
    document["images"] = [*(_image(name, full) for name, full in references.items()), *others]
    if model is not None:
        _add_patch(document, server, f"{server}.yaml")
        _write(folder / f"{server}.yaml", [{"op": "replace", "path": ANNOTATION, "value": model}])
    if image:
        _add_patch(document, server, file_of(server))
        _write(folder / file_of(server), volume_patch(server, image))
    _write(folder / "kustomization.yaml", document)
    return image


def _model_image(folder: Path, server: str, oci: str | None, model: str | None) -> str | None:
    """``repository@digest`` of the model, where the overlay takes it from a registry."""
    known = folder / file_of(server)
    repository = oci or (repository_of(_read(known)) if known.is_file() else None)
    return image_of_model(repository, model) if repository and model and model != NO_MODEL else None


def _add_patch(document: Any, server: str, path: str) -> None:
    if all(known["path"] != path for known in document.setdefault("patches", [])):
        document["patches"].append({"target": {"kind": "Deployment", "name": server}, "path": path})


def _comes_later(store: str) -> tuple[str, str] | None:
    """Why the newest model of a store is not pinned now, and what to do then; None where the store has one."""
    if claim_of(store):
        path = f"{pod_path(store)}/models/current.json"
        return "is a volume that only pods read", (
            f"after a run: kubectl exec store-shell -- cat {path}, and pin again with --model SHA256"
        )
    is_folder_to_come = not in_bucket(store) and not Path(store).exists()
    if is_folder_to_come or not has_current(Store(store)):
        return "has no model yet", "pin again after the first run that publishes there"
    return None


def _require_deployment(overlay: Path, server: str, before: dict[Path, str]) -> None:
    """Check, where kubectl is there to render it, that the overlay has the Deployment; else put ``before`` back."""
    if shutil.which("kubectl") is None:
        return
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    objects = YAML(typ="safe").load_all(done.stdout) if done.returncode == 0 else ()
    deployments = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Deployment"}
    wrong_volume = volume_problem(deployments[server]) if server in deployments else None
    if server in deployments and not wrong_volume:
        return
    for path in (overlay / PINNED).iterdir():
        if path not in before:
            path.unlink()
    for path, text in before.items():
        path.write_text(text)
    why = f"has no Deployment {server!r}, but {', '.join(deployments)}" if deployments else done.stderr.strip()[-300:]
    if wrong_volume:
        raise RecipeError(f"{overlay / 'kustomization.yaml'}: {wrong_volume}")
    raise RecipeError(f"{overlay}: {why}; correct --server or the overlay")


def _wanted(sha256: str | None, store_address: str | None) -> str | None:
    if sha256 is not None and _BEGINNING.match(sha256) and store_address and not claim_of(store_address):
        sha256 = _completed(sha256, Store(store_address))
    if sha256 is not None and not _SHA256.match(sha256):
        raise RecipeError(f"--model {sha256}: not a sha256 (64 hexadecimal digits); a run prints it at its end")
    if store_address is None:
        return sha256
    if claim := claim_of(store_address):
        raise RecipeError(
            f"--store {store_address}: only pods read that volume (claim {claim}); leave --store out: a --model there "
            "is not checked"
        )
    store = Store(store_address)
    return require_manifest(store, sha256 or current(store).sha256).sha256


def _completed(beginning: str, store: Store) -> str:
    """The digest of the store's one model that begins so."""
    known = published(store)
    found = [sha256 for sha256 in known if sha256.startswith(beginning)]
    if len(found) != 1:
        which = f"{len(found)} models begin so" if found else "no model begins so"
        raise RecipeError(f"--model {beginning}: {which}; {store.address} holds {', '.join(known) or 'none'}")
    return found[0]


def _pinned_model(folder: Path, server: str) -> str:
    path = folder / f"{server}.yaml"
    return str(_read(path)[0]["value"]) if path.is_file() else NO_MODEL


def _image(name: str, full: str) -> dict[str, str]:
    if "@" in full:
        repository, _, digest = full.partition("@")
        return {"name": f"{PREFIX}{name}", "newName": repository, "digest": digest}
    registry_and_name, _, tag = full.rpartition(":")
    return {"name": f"{PREFIX}{name}", "newName": registry_and_name, "newTag": tag}


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 200
    return yaml


def _read(path: Path) -> Any:
    return _yaml().load(path.read_text(encoding="utf-8"))


def _write(path: Path, document: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        _yaml().dump(document, file)
