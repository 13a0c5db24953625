"""Local paths of inputs: a local address is used as it is, and a file in a bucket is downloaded once into a cache."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from components.errors import DataError, StoreError
from components.storage.digests import sha256_of
from components.storage.download import download
from components.storage.store import Store, in_bucket, open_parent


def local_file(address: str, sha256: str | None) -> Path:
    """The local path of the file at ``address``; a file from a bucket must have the digest ``sha256``.

    With ``sha256`` None the file is downloaded again, and cached under the digest that it turns out to have.

    Raises:
        DataError: the bucket has no such file.
        StoreError: the bucket refuses, or the file has another digest.
    """
    if not in_bucket(address):
        return Path(address)
    store, key = open_parent(address)
    if sha256 is None:
        return _download_by_content(store, key)
    target = _cached_path(sha256, key)
    with _download_lock(target):
        if not target.is_file():
            _fetch(store, key, target, sha256)
    return target


def _cached_path(sha256: str, key: str) -> Path:
    return cache_folder() / "inputs" / sha256 / key


def _download_by_content(store: Store, key: str) -> Path:
    root = cache_folder() / "inputs"
    with _explained(root):
        root.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=root, prefix=".new-")
    with folder as name:
        new = Path(name) / key
        _fetch(store, key, new, None)
        target = _cached_path(sha256_of(new), key)
        with _download_lock(target):
            if not target.is_file():
                new.rename(target)
    return target


@cache
def local_folder(address: str, revision: str, files: tuple[str, ...], revision_of: Callable[[Path], str]) -> Path:
    """The local path of the folder at ``address``, for which ``revision_of`` must give ``revision``.

    Of a bucket's folder the files that match the patterns ``files`` are downloaded; it has no subfolders. A process
    checks a folder once.

    Raises:
        DataError: the folder does not exist, or has another revision.
        StoreError: the bucket refuses.
    """
    folder = Path(address) if not in_bucket(address) else cached_folder(address, revision, files)
    if not folder.is_dir():
        raise DataError(f"{address}: no such folder; correct the address")
    if (found := revision_of(folder)) != revision:
        raise DataError(
            f"{address}: its files have the digest {found}, not {revision}: they were changed, or not copied "
            "completely; copy them again, or run the recipe again to use the present ones"
        )
    return folder


def cached_folder(address: str, name: str, files: tuple[str, ...]) -> Path:
    """The local folder ``name`` of the cache, with the files of a bucket's folder that match the patterns ``files``,
    whatever their case; a file is downloaded once.

    Raises:
        StoreError: the bucket refuses.
    """
    folder = cache_folder() / "folders" / name
    store = Store(address)
    with _download_lock(folder):
        for key in store.keys(""):
            if (
                "/" not in key
                and any(Path(key.lower()).match(pattern) for pattern in files)
                and not (folder / key).is_file()
            ):
                _fetch(store, key, folder / key, None)
    return folder


def _fetch(store: Store, key: str, target: Path, sha256: str | None) -> None:
    try:
        download(store, key, target, sha256)
    except FileNotFoundError:
        raise DataError(f"{store.address_of(key)}: the bucket has no such file; correct the address") from None


@contextmanager
def _download_lock(target: Path) -> Iterator[None]:
    """Let one process at a time download ``target``; the next one finds it, or resumes the download."""
    with _explained(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.lock").open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); set LORRY_CACHE to a writable folder"
        ) from error


def cache_folder() -> Path:
    """The folder of downloaded inputs: ``LORRY_CACHE``, or ``~/.cache/lorry``."""
    return Path(os.environ.get("LORRY_CACHE", Path.home() / ".cache" / "lorry"))
