"""The store: files under keys, in a folder (a mounted volume) or a bucket (``s3://``, ``gs://``).

A bucket's credentials come from the environment under the names that its own tools use (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``GOOGLE_SERVICE_ACCOUNT``, …).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, LocalStore, S3Store

from components.errors import RefusedByStoreError, DiskSpaceError, StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SCHEMES = ("s3://", "gs://")
_ADDRESS = re.compile(r"^(/|(s3|gs)://[a-z0-9])")
# Where a library looks for credentials that nobody has set.
METADATA_SERVICE = "169.254.169.254"
# obstore raises Python's own errors for some of these.
REFUSALS = (UnauthenticatedError, PermissionDeniedError, PermissionError)
# What a broken connection costs at most.
CHUNK_BYTES = 2**20
_CLIENT: ClientConfig = {"timeout": "300s", "connect_timeout": "10s"}
_SHORT_TIMEOUTS: ClientConfig = {"timeout": "5s", "connect_timeout": "3s"}
_NO_RETRIES: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}
_RETRIES: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}


def in_bucket(address: str) -> bool:
    """True for the address of something in a bucket."""
    return address.startswith(SCHEMES)


class Store:
    """Files under keys such as ``models/<sha256>/model.json``. A file is there whole or not at all."""

    def __init__(self, address: str, *, create: bool = False, short_timeouts: bool = False) -> None:
        """Nothing is asked of a bucket yet. ``make``: a folder that is not there is made.

        ``short_timeouts`` is for looks that are repeated anyway: seconds for an answer, and no second try.

        Raises:
            StoreError: the address is none, or its folder is not there or cannot be made.
        """
        self.address = address.rstrip("/")
        if not _ADDRESS.match(address):
            raise StoreError(
                f"store {address!r}: give an absolute path, or the bucket's name after one of {', '.join(SCHEMES)}"
            )
        if not in_bucket(address) and not make and not Path(address).is_dir():
            raise StoreError(f"store {address}: no such folder; mend the path, or publish a model there first")
        with self._in_words(""):
            self._store = _open(self.address, short_timeouts=short_timeouts)

    def address_of(self, key: str) -> str:
        """The full address of a key."""
        return f"{self.address}/{key}"

    def put(self, key: str, path: Path) -> None:
        """Copy a file into the store; a large one in parts that become visible together.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._in_words(key):
            obstore.put(self._store, key, path)

    def put_bytes(self, key: str, content: bytes) -> None:
        """Write a small file.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._in_words(key):
            obstore.put(self._store, key, content)

    def size_of(self, key: str) -> int | None:
        """Size of a file in bytes, or None when there is none.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        try:
            with self._in_words(key):
                return int(obstore.head(self._store, key)["size"])
        except FileNotFoundError:
            return None

    def read(self, key: str) -> bytes:
        """The bytes of a small file.

        Raises:
            FileNotFoundError: there is none.
            StoreError: the store refuses or does not answer.
        """
        with self._in_words(key):
            return bytes(obstore.get(self._store, key).bytes())

    def keys(self, folder: str) -> list[str]:
        """The keys below a folder, sorted.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._in_words(folder):
            return sorted(entry["path"] for batch in obstore.list(self._store, folder) for entry in batch)

    def newest_first(self, folder: str, name: str) -> list[str]:
        """The keys of the files below a folder whose names begin with ``name``, the newest first.

        Raises:
            StoreError: the store refuses or does not answer.
        """
        with self._in_words(folder):
            entries = [entry for batch in obstore.list(self._store, folder) for entry in batch]
        named = [entry for entry in entries if entry["path"].rsplit("/", 1)[-1].startswith(name)]
        return [entry["path"] for entry in sorted(named, key=lambda entry: entry["last_modified"], reverse=True)]

    def sha256_of(self, key: str) -> str:
        """sha256 of a file in the store, which is read whole.

        Raises:
            FileNotFoundError: there is none.
            StoreError: the store refuses or does not answer.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks(key):
            digest.update(chunk)
        return digest.hexdigest()

    def chunks(self, key: str, begin: int = 0) -> Iterator[bytes]:
        """The bytes of a file from ``begin`` on, which must be before its end; a megabyte at a time.

        Raises:
            FileNotFoundError: there is none.
            StoreError: the store refuses, or breaks off.
        """
        with self._in_words(key):
            stream = obstore.get(self._store, key, options={"range": {"offset": begin}}).stream(CHUNK_BYTES)
        while True:
            with self._in_words(key):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)

    @contextmanager
    def _in_words(self, key: str) -> Iterator[None]:
        """Turn the library's errors into ones that say what to do."""
        where = self.address_of(key) if key else self.address
        try:
            yield
        except (FileNotFoundError, NotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise StoreError(f"{self.address}: no such bucket; make it, or mend the store's address") from error
            raise FileNotFoundError(where) from error
        except REFUSALS as error:
            raise RefusedByStoreError(
                f"{where}: the store refuses ({_first_line(error)}); check its credentials in the environment "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …) and the rights on the bucket or folder"
            ) from error
        except OSError as error:
            raise StoreError(f"{where}: {_first_line(error)}; check the store's address, then run again") from error
        except BaseError as error:
            if "No space left" in str(error):
                raise DiskSpaceError(f"{where}: the disk is full; free some room and run again") from error
            if METADATA_SERVICE in str(error):
                raise RefusedByStoreError(
                    f"{where}: no credentials for this bucket in the environment; set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY (for gs:// GOOGLE_SERVICE_ACCOUNT)"
                ) from error
            raise StoreError(
                f"{where}: the store does not answer as it should ({_first_line(error)}); check its address, the "
                "network and, for a bucket that is not Amazon's or Google's, AWS_ENDPOINT_URL"
            ) from error


def open_parent(address: str) -> tuple[Store, str]:
    """The store that holds the file at ``address``, and the file's key in it."""
    folder, _, key = address.rstrip("/").rpartition("/")
    return Store(folder), key


def _open(address: str, *, short_timeouts: bool) -> LocalStore | S3Store | GCSStore:
    timeouts, retries = (_SHORT_TIMEOUTS, _NO_RETRIES) if short_timeouts else (_CLIENT, _RETRIES)
    if address.startswith("s3://"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise StoreError(f"AWS_ENDPOINT_URL = {endpoint!r}: not an address; it begins with http:// or https://")
        # An endpoint inside a cluster has no certificate as a rule.
        plain = endpoint.startswith("http://")
        client: ClientConfig = {**timeouts, "allow_http": plain}
        return S3Store.from_url(address, client_options=client, retry_config=retries)
    if address.startswith("gs://"):
        return GCSStore.from_url(address, client_options=timeouts, retry_config=retries)
    return LocalStore(address, mkdir=True)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
