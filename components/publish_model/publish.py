"""Put a model into the store: the file, then its manifest, then the pointer to the newest."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.errors import ModelError
from components.publish_model.config import PublishConfig
from components.publish_model.model_image import push_model_image
from components.storage.digests import sha256_of
from components.storage.published_models import CURRENT_KEY, Current, key_of, published_manifest
from components.storage.store import Store

log = logging.getLogger(__name__)


def publish(
    config: PublishConfig, *, model_path: str, recipe: str, measured: Mapping[str, float] | None = None
) -> ModelManifest:
    """Put the model of the folder ``model_path`` into the store, then point ``current`` to it.

    The manifest is written after the file: where there is one, the model is complete. A model that is in the store
    already is not sent again. ``measured`` are figures of the exported file, which its manifest gets now.

    Raises:
        ModelError: the folder has no model, or one that differs from its manifest.
        StoreError: the store refuses or does not answer.
    """
    assert config.store is not None  # the recipe is resolved
    store = Store(config.store, create=True)
    folder = Path(model_path)
    manifest = _read_model(folder)
    manifest = manifest.model_copy(update={"evaluation": {**manifest.evaluation, **(measured or {})}})
    if _is_in_store(store, manifest):
        log.info("%s is in the store already", manifest.sha256)
        if measured:
            _put_manifest(store, manifest)
    else:
        _put_model(store, manifest, folder)
    store.put_bytes(CURRENT_KEY, Current(sha256=manifest.sha256, recipe=recipe).model_dump_json().encode())
    # Until `current` named the model, `lorry gc` may have found it unneeded.
    if not _is_complete(store, manifest):
        _put_model(store, manifest, folder)
    log.info("current is now %s", manifest.sha256)
    return manifest


def _put_model(store: Store, manifest: ModelManifest, folder: Path) -> None:
    file_key = key_of(manifest.sha256, manifest.file)
    log.info("publishing %s, %.1f MB", store.address_of(file_key), manifest.size_bytes / 1e6)
    store.put(file_key, folder / manifest.file)
    _put_manifest(store, manifest)


def _put_manifest(store: Store, manifest: ModelManifest) -> None:
    store.put_bytes(key_of(manifest.sha256, MANIFEST_NAME), (manifest.model_dump_json(indent=2) + "\n").encode())


def publish_image(config: PublishConfig, *, model_path: str, manifest: ModelManifest) -> str | None:
    """Push a published model as an image where the recipe names a repository for it; give ``repository@digest``.

    Raises:
        StoreError: the registry refuses or does not answer.
    """
    if config.oci is None:
        return None
    return push_model_image(config.oci, Path(model_path) / manifest.file, manifest)


def publish_figures(config: PublishConfig, run: str, figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a run's figures into the store, by the name of the step; ``lorry submit --wait`` reads them.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    assert config.store is not None
    Store(config.store, create=True).put_bytes(figures_key(run), json.dumps(figures).encode())


def figures_key(run: str) -> str:
    """The key of a run's figures in the store."""
    return f"runs/{run}.json"


def _is_in_store(store: Store, manifest: ModelManifest) -> bool:
    """Whether the store has this model, undamaged."""
    file_key = key_of(manifest.sha256, manifest.file)
    return _is_complete(store, manifest) and store.sha256_of(file_key) == manifest.sha256


def _is_complete(store: Store, manifest: ModelManifest) -> bool:
    """Whether the store has a manifest of this model, and a file of its size."""
    try:
        if published_manifest(store, manifest.sha256) is None:
            return False
    except ModelError:
        return False
    return store.size_of(key_of(manifest.sha256, manifest.file)) == manifest.size_bytes


def _read_model(folder: Path) -> ModelManifest:
    """The manifest of the model in ``folder``, whose file has the manifest's digest."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ModelError(f"{folder}: holds no {MANIFEST_NAME}; export the model again")
    try:
        manifest = ModelManifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: cannot be read ({reason}); export the model again") from error
    if not (folder / manifest.file).is_file():
        raise ModelError(f"{folder}: holds no {manifest.file}, which its {MANIFEST_NAME} names; export the model again")
    if (found := sha256_of(folder / manifest.file)) != manifest.sha256:
        raise ModelError(f"{folder / manifest.file}: its sha256 is {found}, not {manifest.sha256}; export it again")
    return manifest
