"""The store: files under keys, in a folder (a mounted volume) or a bucket (``s3://``, ``gs://``).

A bucket's credentials come from the environment, under the names that the provider's own tools use
(``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``GOOGLE_SERVICE_ACCOUNT``, …).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, LocalStore, S3Store

from components.errors import DiskSpaceError, RefusedByStoreError, StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SCHEMES = ("s3://", "gs://")
_ADDRESS = re.compile(r"^(/|(s3|gs)://[a-z0-9])")
# obstore asks this address for credentials where the environment has none.
METADATA_SERVICE = "169.254.169.254"
# obstore raises some of these as Python's built-in errors.
# In the text of the general error that a listing raises.
_REFUSED = re.compile(r"status code: 40[13]\b")
REFUSALS = (UnauthenticatedError, PermissionDeniedError, PermissionError)
# A broken connection loses at most this much.
CHUNK_BYTES = 2**20
_TIMEOUTS: ClientConfig = {"timeout": "300s", "connect_timeout": "10s"}
_SHORT_TIMEOUTS: ClientConfig = {"timeout": "5s", "connect_timeout": "3s"}
_NO_RETRIES: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}
_RETRIES: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}


def in_bucket(address: str) -> bool:
    """Whether an address is in a bucket."""
    return address.startswith(SCHEMES)


@dataclass(frozen=True)
class StoredFile:
    """One file of a store, as a listing describes it."""

    key: str
    size_bytes: int
    modified: datetime


class Store:
    """Files under keys such as ``models/<sha256>/model.json``. A file is complete or absent."""

    def __init__(self, address: str, *, create: bool = False, short_timeouts: bool = False) -> None:
        """Open the store without a request to the bucket.

        ``create`` makes a folder that does not exist. ``short_timeouts`` is for requests that are repeated anyway:
        a few seconds for an answer and no retry.

        Raises:
            StoreError: the address is not valid, or its folder does not exist or cannot be made.
        """
        self.address = address.rstrip("/")
        if not _ADDRESS.match(address):
            raise StoreError(
                f"store {address!r}: give an absolute path, or the bucket's name after one of {', '.join(SCHEMES)}"
            )
        if not in_bucket(address) and not create and not Path(address).is_dir():
            raise StoreError(f"store {address}: no such folder; correct the path, or publish a model there first")
        with self._explained(""):
            self._store = _open(self.address, short_timeouts=short_timeouts)

    def address_of(self, key: str) -> str:
        """The full address of a key."""
        return f"{self.address}/{key}"

    def put(self, key: str, path: Path) -> None:
        """Copy a file into the store; the parts of a large one become visible together.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._explained(key):
            obstore.put(self._store, key, path)

    def put_bytes(self, key: str, content: bytes) -> None:
        """Write a small file.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._explained(key):
            obstore.put(self._store, key, content)

    def size_of(self, key: str) -> int | None:
        """The size of a file in bytes, or None where it does not exist.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        found = self.file(key)
        return None if found is None else found.size_bytes

    def file(self, key: str) -> StoredFile | None:
        """A file as a listing describes it, or None where it does not exist.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        try:
            with self._explained(key):
                found = obstore.head(self._store, key)
        except FileNotFoundError:
            return None
        return StoredFile(found["path"], int(found["size"]), found["last_modified"])

    def read(self, key: str) -> bytes:
        """The bytes of a small file.

        Raises:
            FileNotFoundError: it does not exist.
            StoreError: the store refuses or does not answer.
        """
        with self._explained(key):
            return bytes(obstore.get(self._store, key).bytes())

    def keys(self, folder: str) -> list[str]:
        """The keys below a folder, sorted.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._explained(folder):
            return sorted(entry["path"] for batch in obstore.list(self._store, folder) for entry in batch)

    def files(self, folder: str = "") -> list[StoredFile]:
        """The files below a folder, sorted by key.

        Of a store that is a folder it also has what an upload that was killed left behind, which ``keys`` leaves out.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._explained(folder):
            if not in_bucket(self.address):
                return sorted(_files_below(Path(self.address), Path(self.address) / folder), key=lambda file: file.key)
            entries = (entry for batch in obstore.list(self._store, folder or None) for entry in batch)
            found = [StoredFile(entry["path"], entry["size"], entry["last_modified"]) for entry in entries]
        return sorted(found, key=lambda file: file.key)

    def names(self) -> list[str]:
        """The names of the files and folders at the top of the store, sorted; a folder's ends in ``/``.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._explained(""):
            if not in_bucket(self.address):
                return sorted(f"{path.name}/" if path.is_dir() else path.name for path in Path(self.address).iterdir())
            found = obstore.list_with_delimiter(self._store)
        files = [entry["path"] for entry in found["objects"]]
        return sorted([*files, *(f"{folder.rstrip('/')}/" for folder in found["common_prefixes"])])

    def delete(self, key: str) -> None:
        """Remove a file; one that does not exist is no error. Of a folder, its empty parents go too.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        if in_bucket(self.address):
            with suppress(FileNotFoundError), self._explained(key):
                obstore.delete(self._store, key)
            return
        # obstore removes no file whose name is that of an unfinished upload.
        path = Path(self.address) / key
        with self._explained(key):
            path.unlink(missing_ok=True)
        for parent in path.relative_to(self.address).parents[:-1]:
            with suppress(OSError):  # it holds something
                (Path(self.address) / parent).rmdir()

    def newest_first(self, folder: str, name: str) -> list[str]:
        """The keys of the files below a folder that have the name prefix ``name``, newest first.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._explained(folder):
            entries = [entry for batch in obstore.list(self._store, folder) for entry in batch]
        named = [entry for entry in entries if entry["path"].rsplit("/", 1)[-1].startswith(name)]
        return [entry["path"] for entry in sorted(named, key=lambda entry: entry["last_modified"], reverse=True)]

    def sha256_of(self, key: str) -> str:
        """sha256 of a file in the store, which is read completely.

        Raises:
            FileNotFoundError: it does not exist.
            StoreError: the store refuses or does not answer.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks(key):
            digest.update(chunk)
        return digest.hexdigest()

    def chunks(self, key: str, begin: int = 0) -> Iterator[bytes]:
        """The bytes of a file from byte ``begin`` on, in chunks of a megabyte; ``begin`` must be less than its size.

        Raises:
            FileNotFoundError: it does not exist.
            StoreError: the store refuses, or the connection breaks.
        """
        with self._explained(key):
            stream = obstore.get(self._store, key, options={"range": {"offset": begin}}).stream(CHUNK_BYTES)
        while True:
            with self._explained(key):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Replace the library's errors by ones that say what to do."""
        where = self.address_of(key) if key else self.address
        try:
            yield
        except (FileNotFoundError, NotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise StoreError(f"{self.address}: no such bucket; create it, or correct its address") from error
            raise FileNotFoundError(where) from error
        except REFUSALS as error:
            raise RefusedByStoreError(_refusal(where, error)) from error
        except OSError as error:
            raise StoreError(f"{where}: {_first_line(error)}; check the store's address, then run again") from error
        except BaseError as error:
            if "No space left" in str(error):
                raise DiskSpaceError(f"{where}: the disk is full; free some space and run again") from error
            if "NoSuchBucket" in str(error):
                raise StoreError(f"{self.address}: no such bucket; create it, or correct its address") from error
            if _REFUSED.search(str(error)):
                raise RefusedByStoreError(_refusal(where, error)) from error
            if METADATA_SERVICE in str(error):
                raise RefusedByStoreError(
                    f"{where}: no credentials for this bucket in the environment; set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY (for gs:// GOOGLE_SERVICE_ACCOUNT)"
                ) from error
            raise StoreError(
                f"{where}: the store gives no valid answer ({_first_line(error)}); check its address, the "
                "network and, for a bucket that is not Amazon's or Google's, AWS_ENDPOINT_URL"
            ) from error


def _refusal(where: str, error: Exception) -> str:
    return (
        f"{where}: the store refuses ({_first_line(error)}); check its credentials in the environment "
        "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …) and the rights on the bucket or folder"
    )


def open_parent(address: str) -> tuple[Store, str]:
    """The store that holds the file at ``address``, and the file's key in it."""
    folder, _, key = address.rstrip("/").rpartition("/")
    return Store(folder), key


def _open(address: str, *, short_timeouts: bool) -> LocalStore | S3Store | GCSStore:
    timeouts, retries = (_SHORT_TIMEOUTS, _NO_RETRIES) if short_timeouts else (_TIMEOUTS, _RETRIES)
    if address.startswith("s3://"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise StoreError(f"AWS_ENDPOINT_URL = {endpoint!r}: not an address; one begins with http:// or https://")
        # An endpoint inside a cluster usually has no certificate.
        plain = endpoint.startswith("http://")
        client: ClientConfig = {**timeouts, "allow_http": plain}
        return S3Store.from_url(address, client_options=client, retry_config=retries)
    if address.startswith("gs://"):
        return GCSStore.from_url(address, client_options=timeouts, retry_config=retries)
    return LocalStore(address, mkdir=True)


def _files_below(root: Path, folder: Path) -> Iterator[StoredFile]:
    """Every file below a folder; one that is removed meanwhile is left out."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for path in (Path(parent) / name for name in names):
            with suppress(FileNotFoundError):
                state = path.lstat()
                modified = datetime.fromtimestamp(state.st_mtime, UTC)
                yield StoredFile(path.relative_to(root).as_posix(), state.st_size, modified)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
