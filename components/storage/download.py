"""Bringing a large file out of a store: resumed where it broke, checked, and there whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import RefusedByStoreError, DiskSpaceError, StoreError
from components.storage.digests import sha256_of
from components.storage.store import Store

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"
# Tries that bring nothing. A slow link that goes on is no reason to give up.
ATTEMPTS = 5
BYTES_BETWEEN_LINES = 256 * 2**20


def download(store: Store, key: str, target: Path, sha256: str | None) -> None:
    """Copy a file out of a store. A broken copy is resumed where it broke, also by a later process.

    ``target`` appears only whole, and only when its digest is ``sha256`` (None: whatever it is).

    Raises:
        FileNotFoundError: the store has no such file.
        StoreError: the store refuses, breaks off again and again, or gives another content.
        DiskSpaceError: the disk is full; what has come stays for the next try.
    """
    part = target.with_name(target.name + PART_SUFFIX)
    with _into(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    attempts, before = 0, -1
    while True:
        try:
            _append(store, key, part)
            break
        except RefusedByStoreError:
            raise
        except StoreError as error:
            attempts, before = (1, _size(part)) if _size(part) > before else (attempts + 1, before)
            if attempts == ATTEMPTS:
                raise
            log.warning("%s; trying again from byte %d", error, _size(part))
    if sha256 is not None and (found := sha256_of(part)) != sha256:
        part.unlink()
        raise StoreError(
            f"{store.address_of(key)}: its sha256 is {found}, not {sha256}: the file in the store was changed or "
            "damaged; publish it again"
        )
    part.rename(target)


def _append(store: Store, key: str, part: Path) -> None:
    """Add to ``part`` what it lacks of the file."""
    total = store.size_of(key)
    if total is None:
        raise FileNotFoundError(store.address_of(key))
    begun = _size(part)
    if begun > total:
        part.unlink()
        begun = 0
    if begun:
        log.info("%s: goes on from byte %d of %d", key, begun, total)
    with _into(part), part.open("ab") as file:
        for chunk in store.chunks(key, begun) if begun < total else ():
            file.write(chunk)
            if file.tell() // BYTES_BETWEEN_LINES != (file.tell() - len(chunk)) // BYTES_BETWEEN_LINES:
                log.info("%s: %.0f of %.0f MB", key, file.tell() / 1e6, total / 1e6)
        file.flush()
        os.fsync(file.fileno())
    if _size(part) != total:
        raise StoreError(f"{store.address_of(key)}: the connection closed at byte {_size(part)} of {total}; run again")


@contextmanager
def _into(target: Path) -> Iterator[None]:
    """Turn what goes wrong on this machine's disk into words."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskSpaceError(
                f"{target}: the disk is full; free room and run again, what has come is kept"
            ) from error
        raise StoreError(f"{target}: cannot be written here ({error.strerror}); mend the folder's rights") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
