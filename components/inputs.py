"""Inputs by address: a path is used where it lies, what is in a bucket is brought here once, by its digest."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from components.errors import DataError, StoreError
from components.store import Store, in_bucket, open_parent


def local_file(address: str, sha256: str | None) -> Path:
    """Where the file at ``address`` lies on this machine; ``sha256`` is asked of a file from a bucket.

    Raises:
        DataError: the bucket has no such file.
        StoreError: the bucket refuses, or holds another content.
    """
    if not in_bucket(address):
        return Path(address)
    store, key = open_parent(address)
    target = _cache() / "inputs" / (sha256 or "unchecked") / key
    if not target.is_file() or sha256 is None:
        with tempfile.TemporaryDirectory(dir=_made(target.parent)) as folder:
            # Under a name of its own first: two steps may want it at once.
            fetched = Path(folder) / key
            try:
                store.fetch(key, fetched, sha256)
            except FileNotFoundError:
                raise DataError(f"{address}: the bucket has no such file; mend the address") from None
            fetched.replace(target)
    return target


def local_folder(address: str, revision: str, revision_of: Callable[[Path], str]) -> Path:
    """Where the folder at ``address`` lies on this machine; ``revision_of`` it must be ``revision``.

    Raises:
        DataError: the bucket has no such folder.
        StoreError: the bucket refuses, or holds another content.
    """
    if not in_bucket(address):
        return Path(address)
    target = _cache() / "folders" / revision
    if target.is_dir():
        return target
    store = Store(address)
    keys = store.keys("")
    if not keys:
        raise DataError(f"{address}: the bucket has no such folder; mend the address")
    with tempfile.TemporaryDirectory(dir=_made(target.parent)) as name:
        folder = Path(name) / "folder"
        for key in keys:
            store.fetch(key, folder / key, None)
        if (found := revision_of(folder)) != revision:
            raise StoreError(
                f"{address}: its files have the digest {found}, not {revision}: put the folder there again"
            )
        if not target.is_dir():
            shutil.move(folder, target)
    return target


def _cache() -> Path:
    """``LORRY_CACHE``, or a folder for temporary files."""
    return Path(os.environ.get("LORRY_CACHE", Path(tempfile.gettempdir()) / "lorry-cache"))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
