"""Download of a large file from a store: resumed after a broken connection, checked, complete or absent."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import DiskSpaceError, RefusedByStoreError, StoreError
from components.storage.digests import sha256_of
from components.storage.store import Store

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"
# Consecutive attempts without a new byte. A slow connection that makes progress is never given up.
ATTEMPTS = 5
BYTES_BETWEEN_LINES = 256 * 2**20


def download(store: Store, key: str, target: Path, sha256: str | None) -> None:
    """Copy a file from a store to ``target``. A later call, also of another process, resumes a broken download.

    ``target`` appears only when it is complete and has the digest ``sha256`` (None: any).

    Raises:
        FileNotFoundError: the store has no such file.
        StoreError: the store refuses, the connection breaks again and again, or the content is another.
        DiskSpaceError: the disk is full; the next call resumes what was downloaded.
    """
    part = target.with_name(target.name + PART_SUFFIX)
    with _explained(target):
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
    """Append the missing rest of the file to ``part``."""
    total = store.size_of(key)
    if total is None:
        raise FileNotFoundError(store.address_of(key))
    present = _size(part)
    if present > total:
        part.unlink()
        present = 0
    if present:
        log.info("%s: resumed at byte %d of %d", key, present, total)
    with _explained(part), part.open("ab") as file:
        for chunk in store.chunks(key, present) if present < total else ():
            file.write(chunk)
            if file.tell() // BYTES_BETWEEN_LINES != (file.tell() - len(chunk)) // BYTES_BETWEEN_LINES:
                log.info("%s: %.0f of %.0f MB", key, file.tell() / 1e6, total / 1e6)
        file.flush()
        os.fsync(file.fileno())
    if _size(part) != total:
        raise StoreError(f"{store.address_of(key)}: the connection closed at byte {_size(part)} of {total}; run again")


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Replace errors of this machine's disk by ones that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskSpaceError(
                f"{target}: the disk is full; free some space and run again, the downloaded part is kept"
            ) from error
        raise StoreError(
            f"{target}: cannot be written here ({error.strerror}); correct the folder's permissions"
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
