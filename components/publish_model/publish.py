"""Put a model into the store: the file, then its manifest, then the pointer to the newest."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.errors import ModelError
from components.publish_model.config import PublishConfig
from components.storage.digests import sha256_of
from components.storage.published_models import CURRENT_KEY, Current, key_of, published_manifest
from components.storage.store import Store

log = logging.getLogger(__name__)


def publish(
    config: PublishConfig, *, model_path: str, recipe: str, measured: Mapping[str, float] | None = None
) -> ModelManifest:
    """Put the model of the folder ``model_path`` into the store, then move ``current`` to it.

    The manifest is written last: where it stands, the model is whole. A model that is there already stays.
    ``measured`` are figures of the exported file, which its manifest did not know yet.

    Raises:
        ModelError: the folder holds no model, or one that is not what its manifest says.
        StoreError: the store refuses or does not answer.
    """
    assert config.store is not None  # the recipe is resolved
    store = Store(config.store, create=True)
    folder = Path(model_path)
    manifest = _checked(folder)
    manifest = manifest.model_copy(update={"evaluation": {**manifest.evaluation, **(measured or {})}})
    file_key = key_of(manifest.sha256, manifest.file)
    is_there = _is_there(store, manifest, file_key)
    if is_there:
        log.info("%s is in the store already", manifest.sha256)
    else:
        log.info("publishing %s, %.1f MB", store.address_of(file_key), manifest.size_bytes / 1e6)
        store.put(file_key, folder / manifest.file)
    if measured or not is_there:
        written = manifest.model_dump_json(indent=2) + "\n"
        store.put_bytes(key_of(manifest.sha256, MANIFEST_NAME), written.encode())
    store.put_bytes(CURRENT_KEY, Current(sha256=manifest.sha256, recipe=recipe).model_dump_json().encode())
    log.info("current is now %s", manifest.sha256)
    return manifest


def publish_figures(config: PublishConfig, run: str, figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep a run's figures, by the name of the pipeline's output, where ``lorry submit --wait`` reads them.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    assert config.store is not None
    Store(config.store, create=True).put_bytes(figures_key(run), json.dumps(figures).encode())


def figures_key(run: str) -> str:
    """The key of a run's figures."""
    return f"runs/{run}.json"


def _is_there(store: Store, manifest: ModelManifest, file_key: str) -> bool:
    """True when the store holds this very model; what was damaged there is no model."""
    try:
        if published_manifest(store, manifest.sha256) is None:
            return False
    except ModelError:
        return False
    return store.size_of(file_key) == manifest.size_bytes and store.sha256_of(file_key) == manifest.sha256


def _checked(folder: Path) -> ModelManifest:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ModelError(f"{folder}: holds no {MANIFEST_NAME}; export the model again")
    manifest = ModelManifest.model_validate_json(path.read_bytes())
    if (found := sha256_of(folder / manifest.file)) != manifest.sha256:
        raise ModelError(f"{folder / manifest.file}: its sha256 is {found}, not {manifest.sha256}; export it again")
    return manifest
