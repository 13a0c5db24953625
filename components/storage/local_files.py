"""Inputs by address: a path is used where it lies, what is in a bucket is brought here once, by its digest."""

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
    """Where the file at ``address`` lies on this machine; ``sha256`` is asked of a file from a bucket.

    Where nobody knows its digest yet the file is brought, and lies by the digest that it has: whoever asks for that one
    finds it.

    Raises:
        DataError: the bucket has no such file.
        StoreError: the bucket refuses, or holds another content.
    """
    if not in_bucket(address):
        return Path(address)
    store, key = open_parent(address)
    if sha256 is None:
        return _brought_anew(store, key)
    target = _by_digest(sha256, key)
    with _sole_fetcher(target):
        if not target.is_file():
            _fetch(store, key, target, sha256)
    return target


def _by_digest(sha256: str, key: str) -> Path:
    return cache_folder() / "inputs" / sha256 / key


def _brought_anew(store: Store, key: str) -> Path:
    root = cache_folder() / "inputs"
    with _refusals_in_words(root):
        root.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=root, prefix=".new-")
    with folder as name:
        new = Path(name) / key
        _fetch(store, key, new, None)
        target = _by_digest(sha256_of(new), key)
        with _sole_fetcher(target):
            if not target.is_file():
                new.rename(target)
    return target


@cache
def local_folder(address: str, revision: str, files: tuple[str, ...], revision_of: Callable[[Path], str]) -> Path:
    """Where the folder at ``address`` lies on this machine; ``revision_of`` it is ``revision``.

    ``files`` are the patterns of what is brought from a bucket, whose folder is flat. What was checked once in a
    process is not checked again.

    Raises:
        DataError: there is no such folder.
        StoreError: the bucket refuses.
        DataError: the folder holds another content.
    """
    folder = Path(address) if not in_bucket(address) else cached_folder(address, revision, files)
    if not folder.is_dir():
        raise DataError(f"{address}: no such folder; mend the address")
    if (found := revision_of(folder)) != revision:
        raise DataError(
            f"{address}: its files have the digest {found}, not {revision}: they were changed, or copied by half; put "
            "them there again, or run the recipe anew to use what is there"
        )
    return folder


def cached_folder(address: str, name: str, files: tuple[str, ...]) -> Path:
    """The files of a bucket's folder that have the patterns ``files``, in whichever case, brought once into the folder
    ``name`` here.

    Raises:
        StoreError: the bucket refuses.
    """
    folder = cache_folder() / "folders" / name
    store = Store(address)
    with _sole_fetcher(folder):
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
        raise DataError(f"{store.address_of(key)}: the bucket has no such file; mend the address") from None


@contextmanager
def _sole_fetcher(target: Path) -> Iterator[None]:
    """One process at a time brings ``target``: the next one goes on with, or finds, what the first has brought."""
    with _refusals_in_words(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.lock").open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _refusals_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); set LORRY_CACHE to a folder that can"
        ) from error


def cache_folder() -> Path:
    """``LORRY_CACHE``, or a folder of this user's."""
    return Path(os.environ.get("LORRY_CACHE", Path.home() / ".cache" / "lorry"))
