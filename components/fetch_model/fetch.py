"""Fetch a model by its digest."""

from __future__ import annotations

import logging
from pathlib import Path

from components.artifacts.contracts import MANIFEST_NAME, ModelManifest
from components.errors import ModelError
from components.storage.digests import sha256_of
from components.storage.download import download
from components.storage.published_models import key_of, require_manifest
from components.storage.store import Store

log = logging.getLogger(__name__)


def fetch(store_address: str, sha256: str, folder: Path) -> ModelManifest:
    """Download the model ``sha256`` into ``folder``: its GGUF file, then ``model.json``, which marks it as complete.

    A download that broke off is resumed.

    Raises:
        ModelError: the store has no such model.
        StoreError: the store refuses, breaks off, or has other content under this digest.
        DiskSpaceError: the disk is full.
    """
    store = Store(store_address)
    manifest = require_manifest(store, sha256)
    target = folder / manifest.file
    file_key = key_of(sha256, manifest.file)
    if target.is_file() and sha256_of(target) == sha256:
        log.info("%s is downloaded already", target)
    else:
        log.info("fetching %s, %.1f MB", store.address_of(file_key), manifest.size_bytes / 1e6)
        try:
            download(store, file_key, target, sha256)
        except FileNotFoundError:
            raise ModelError(
                f"{store.address_of(file_key)}: the store has the model's manifest but not its file; publish it again"
            ) from None
    # Written under another name and renamed, so that model.json is never incomplete.
    partial = folder / f".{MANIFEST_NAME}"
    partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.rename(folder / MANIFEST_NAME)
    log.info("%s: the sha256 is %s, as expected", target, sha256)
    return manifest
