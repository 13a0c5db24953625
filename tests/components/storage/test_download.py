"""Downloads that break, with a store that is faked: attempts, resuming, and what a target's folder refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from components.errors import DiskSpaceError, RefusedByStoreError, StoreError
from components.storage import download as download_module
from components.storage.download import ATTEMPTS, PART_SUFFIX, download

CONTENT = bytes(range(100))
DIGEST = sha256(CONTENT).hexdigest()


class BreakingStore:
    """A store of one file, whose connection breaks after so many bytes of each attempt; None: it does not."""

    def __init__(self, *breaks: int | None, content: bytes = CONTENT) -> None:
        self.content = content
        self.breaks = list(breaks)
        self.begins: list[int] = []

    def address_of(self, key: str) -> str:
        return f"s3://bucket/{key}"

    def size_of(self, key: str) -> int | None:
        return len(self.content) if key == "file" else None

    def chunks(self, key: str, begin: int = 0) -> Iterator[bytes]:
        self.begins.append(begin)
        n = self.breaks.pop(0) if self.breaks else None
        rest = self.content[begin:]
        for at in range(0, len(rest) if n is None else n, 10):
            yield rest[at : at + 10]
        if n is not None:
            raise StoreError("the connection broke")


def fetch(store: BreakingStore, target: Path, digest: str | None = DIGEST, key: str = "file") -> None:
    download(store, key, target, digest)  # type: ignore[arg-type]


def test_a_broken_download_resumes_where_it_broke(tmp_path, caplog):
    store = BreakingStore(30, 20, None)
    fetch(store, tmp_path / "new" / "file")
    assert store.begins == [0, 30, 50]
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"the connection broke; trying again from byte {n}" for n in (30, 50)]


def test_attempts_that_bring_nothing_are_limited_and_those_that_bring_something_are_not(tmp_path):
    slow = BreakingStore(*[10] * 9, None)
    fetch(slow, tmp_path / "slow")
    assert slow.begins == list(range(0, 100, 10))
    stuck = BreakingStore(10, *[0] * 100)
    with pytest.raises(StoreError, match="the connection broke"):
        fetch(stuck, tmp_path / "stuck")
    assert stuck.begins == [0, *[10] * (ATTEMPTS - 1)]
    assert (tmp_path / f"stuck{PART_SUFFIX}").read_bytes() == CONTENT[:10]


def test_a_store_that_denies_access_is_not_asked_again(tmp_path):
    class Denying(BreakingStore):
        def size_of(self, key: str) -> int | None:
            self.begins.append(-1)
            raise RefusedByStoreError("denied")

    store = Denying()
    with pytest.raises(RefusedByStoreError):
        fetch(store, tmp_path / "file")
    assert store.begins == [-1]


def test_a_connection_that_closes_early_without_an_error_counts_as_broken(tmp_path):
    class Short(BreakingStore):
        def chunks(self, key: str, begin: int = 0) -> Iterator[bytes]:
            yield self.content[begin : begin + 60]

    fetch(Short(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_complete_part_is_checked_and_not_requested_again(tmp_path):
    (tmp_path / f"file{PART_SUFFIX}").write_bytes(CONTENT)
    store = BreakingStore()
    fetch(store, tmp_path / "file")
    assert store.begins == []
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_discarded(tmp_path):
    (tmp_path / f"file{PART_SUFFIX}").write_bytes(CONTENT + b"more")
    store = BreakingStore()
    fetch(store, tmp_path / "file")
    assert store.begins == [0]


def test_an_empty_file_is_a_file(tmp_path):
    fetch(BreakingStore(content=b""), tmp_path / "file", sha256().hexdigest())
    assert (tmp_path / "file").read_bytes() == b""


def test_a_damaged_part_is_removed_so_that_the_next_try_begins_anew(tmp_path):
    (tmp_path / f"file{PART_SUFFIX}").write_bytes(b"x" * 50)
    with pytest.raises(StoreError, match=f"s3://bucket/file: its sha256 is .*, not {DIGEST}: the file in the store"):
        fetch(BreakingStore(), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    fetch(BreakingStore(), tmp_path / "file")


def test_without_a_digest_any_content_is_taken(tmp_path):
    fetch(BreakingStore(content=b"anything"), tmp_path / "file", None)
    assert (tmp_path / "file").read_bytes() == b"anything"


def test_a_file_that_the_store_does_not_have_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="s3://bucket/other"):
        fetch(BreakingStore(), tmp_path / "file", key="other")


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, DiskSpaceError, "the disk is full; free some space and run again"),
        (errno.EACCES, StoreError, r"cannot be written here \(Permission denied\); correct the folder's permissions"),
    ],
)
def test_errors_of_this_machines_disk_name_the_file_here(tmp_path, monkeypatch, number, kind, message):
    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(download_module.os, "fsync", fails)
    with pytest.raises(kind, match=rf"{tmp_path}/file{PART_SUFFIX}: {message}"):
        fetch(BreakingStore(), tmp_path / "file")


def test_progress_of_a_large_file_is_a_line_now_and_then(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(download_module, "BYTES_BETWEEN_LINES", 40)
    fetch(BreakingStore(), tmp_path / "file")
    assert len(caplog.messages) == 2, "at 40 and 80 of 100 bytes"
