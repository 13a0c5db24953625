"""Local paths of inputs: what is here already, what is cached, and what one process at a time downloads."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from components.errors import DataError, StoreError
from components.storage import local_files
from components.storage.digests import sha256_of, sha256_of_all
from components.storage.local_files import cache_folder, cached_folder, local_file, local_folder
from components.storage.store import Store


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LORRY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """A folder that stands for the bucket at ``s3://bucket``: the store of a folder has the same calls."""
    folder = tmp_path / "bucket"
    folder.mkdir()

    def opened(address: str) -> Store:
        return Store(address.replace("s3://bucket", str(folder)))

    monkeypatch.setattr(local_files, "Store", opened)
    monkeypatch.setattr(
        local_files,
        "open_parent",
        lambda address: (opened(address.rpartition("/")[0]), address.rpartition("/")[2]),
    )
    return folder


def revision(folder: Path) -> str:
    return sha256_of_all(sorted(folder.glob("*.json")))


def test_a_local_file_is_used_where_it_is_without_a_check():
    assert local_file("/nowhere/data.jsonl", "0" * 64) == Path("/nowhere/data.jsonl")


def test_a_file_of_a_bucket_is_downloaded_once_under_its_digest(bucket, cache):
    (bucket / "data.jsonl").write_text("rows")
    digest = sha256_of(bucket / "data.jsonl")
    path = local_file("s3://bucket/data.jsonl", digest)
    assert path == cache / "inputs" / digest / "data.jsonl"
    (bucket / "data.jsonl").unlink()
    assert local_file("s3://bucket/data.jsonl", digest).read_text() == "rows"


def test_a_file_without_a_known_digest_is_downloaded_every_time(bucket, cache):
    (bucket / "data.jsonl").write_text("first")
    first = local_file("s3://bucket/data.jsonl", None)
    (bucket / "data.jsonl").write_text("second")
    second = local_file("s3://bucket/data.jsonl", None)
    assert (first.read_text(), second.read_text()) == ("first", "second")
    assert first.parent.name == sha256_of(first)
    temporary = [path for path in (cache / "inputs").iterdir() if path.name.startswith(".new-")]
    assert temporary == []


def test_a_file_that_the_bucket_does_not_have_names_the_address(bucket, cache):
    for digest in (None, "0" * 64):
        with pytest.raises(DataError, match=r"bucket/none: the bucket has no such file; correct the address"):
            local_file("s3://bucket/none", digest)


def test_another_content_than_the_digest_is_refused_and_not_cached(bucket, cache):
    (bucket / "data.jsonl").write_text("rows")
    with pytest.raises(StoreError, match="its sha256 is"):
        local_file("s3://bucket/data.jsonl", "0" * 64)
    assert not [path for path in cache.rglob("data.jsonl*") if path.is_file()]


def test_a_local_folder_must_have_the_revision(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    right = revision(tmp_path)
    assert local_folder(str(tmp_path), right, ("*.json",), revision) == tmp_path
    with pytest.raises(DataError, match=f"{tmp_path}: its files have the digest {right}, not other: they were changed"):
        local_folder(str(tmp_path), "other", ("*.json",), revision)


def test_a_folder_that_does_not_exist_is_named():
    with pytest.raises(DataError, match="/nowhere: no such folder; correct the address"):
        local_folder("/nowhere", "r", ("*.json",), revision)


def test_a_folder_is_checked_once_in_a_process(tmp_path):
    checked: list[Path] = []

    def revision_of(folder: Path) -> str:
        checked.append(folder)
        return "r"

    for _ in range(3):
        local_folder(str(tmp_path), "r", ("*.json",), revision_of)
    assert checked == [tmp_path]


def test_of_a_buckets_folder_the_matching_files_are_downloaded_once(bucket, cache):
    for name in ("config.json", "TOKENIZER.JSON", "weights.bin", "deeper/other.json"):
        (bucket / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / "base" / name).write_text(name)
    folder = cached_folder("s3://bucket/base", "name", ("*.json",))
    assert folder == cache / "folders" / "name"
    assert sorted(path.name for path in folder.iterdir()) == ["TOKENIZER.JSON", "config.json"]
    (bucket / "base" / "config.json").write_text("changed")
    assert (cached_folder("s3://bucket/base", "name", ("*.json",)) / "config.json").read_text() == "config.json"


def test_only_one_process_at_a_time_downloads_a_file(bucket, cache, monkeypatch):
    """The lock is held while the file is downloaded: another process could not take it."""
    (bucket / "data.jsonl").write_text("rows")
    digest = sha256_of(bucket / "data.jsonl")
    download, blocked = local_files.download, []

    def watched(store: Store, key: str, target: Path, sha256: str | None) -> None:
        with target.with_name(f".{target.name}.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                blocked.append(target.name)
        download(store, key, target, sha256)

    monkeypatch.setattr(local_files, "download", watched)
    local_file("s3://bucket/data.jsonl", digest)
    assert blocked == ["data.jsonl"]


def test_a_cache_that_cannot_be_written_names_the_variable(bucket, monkeypatch):
    monkeypatch.setenv("LORRY_CACHE", "/proc/lorry")
    (bucket / "data.jsonl").write_text("rows")
    for digest in (None, "0" * 64):
        with pytest.raises(StoreError, match=r"/proc/lorry/.*cannot be written .*set LORRY_CACHE to a writable folder"):
            local_file("s3://bucket/data.jsonl", digest)


def test_the_cache_is_the_users_unless_the_variable_names_another(monkeypatch):
    monkeypatch.setenv("LORRY_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
    monkeypatch.delenv("LORRY_CACHE")
    monkeypatch.setenv("HOME", "/home/user")
    assert cache_folder() == Path("/home/user/.cache/lorry")


def test_a_digest_of_files_depends_on_names_contents_and_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    digest = sha256_of_all([one, two])
    assert digest != sha256_of_all([two, one])
    two.rename(tmp_path / "three")
    assert digest != sha256_of_all([one, tmp_path / "three"])
    assert sha256_of_all([]) == sha256_of_all([])
