"""``lorry publish --oci``: a model of a store to a container registry."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from components.publish_model.model_image import push_model_image
from components.storage.container_registry import ContainerRegistry
from components.storage.download import download
from components.storage.published_models import current, key_of, require_manifest
from components.storage.store import Store, in_bucket


def push_from_store(
    repository: str, store_address: str, sha256: str | None, scratch: Path, report: Callable[[str], None]
) -> tuple[str, str]:
    """Push a store's model, its newest when ``sha256`` is None; give its sha256 and ``repository@digest``.

    A model of a bucket is first downloaded into a folder in ``scratch``, which is removed.

    Raises:
        ModelError: the store has no such model.
        StoreError: store or registry refuse or do not answer.
        DiskSpaceError: the disk is full.
    """
    ContainerRegistry(repository)  # asked first: a large download should not end in a registry that does not answer
    store = Store(store_address)
    manifest = require_manifest(store, sha256 or current(store).sha256)
    key = key_of(manifest.sha256, manifest.file)
    report(f"{store.address_of(key)}: {manifest.size_bytes / 1e6:.1f} MB")
    if not in_bucket(store_address):
        return manifest.sha256, push_model_image(repository, Path(store_address) / key, manifest)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        download(store, key, Path(folder) / manifest.file, manifest.sha256)
        return manifest.sha256, push_model_image(repository, Path(folder) / manifest.file, manifest)
