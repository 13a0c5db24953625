"""The store: a folder and a bucket behave alike, and no file is ever incomplete."""

from __future__ import annotations

import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.errors import DataError, DiskSpaceError, StoreError
from components.storage.digests import sha256_of
from components.storage.download import PART_SUFFIX, download
from components.storage.local_files import local_file, local_folder
from components.storage.store import Store
from tests.buckets import BreakingProxy, s3_server
from tests.conftest import free_port

BUCKET = "s3://lorry/folder"


@pytest.fixture(scope="module")
def endpoint():
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "store"), create=True)
    request.getfixturevalue("endpoint")
    return Store(BUCKET)


@pytest.fixture
def big(tmp_path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_what_is_put_is_found_listed_and_fetched(store, big, tmp_path):
    store.put("models/a/big", big)
    store.put_bytes("models/a/small", b"words")
    assert store.keys("models/a") == ["models/a/big", "models/a/small"]
    assert store.size_of("models/a/big") == 3_000_000
    assert store.read("models/a/small") == b"words"
    download(store, "models/a/big", tmp_path / "fetched", sha256_of(big))
    assert sha256_of(tmp_path / "fetched") == sha256_of(big)


def test_what_is_not_there_is_not_found(store, tmp_path):
    assert store.size_of("models/none") is None
    with pytest.raises(FileNotFoundError, match="models/none"):
        store.read("models/none")
    with pytest.raises(FileNotFoundError, match="models/none"):
        download(store, "models/none", tmp_path / "fetched", None)


def test_another_content_than_the_digest_is_refused_and_leaves_nothing(store, big, tmp_path):
    store.put("damaged", big)
    with pytest.raises(StoreError, match=f"damaged: its sha256 is {sha256_of(big)}, not {'0' * 64}: the file in the"):
        download(store, "damaged", tmp_path / "out" / "fetched", "0" * 64)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_part_of_an_earlier_try_is_resumed(store, big, tmp_path):
    store.put("big", big)
    part = tmp_path / f"fetched{PART_SUFFIX}"
    part.write_bytes(big.read_bytes()[:1_000_000])
    download(store, "big", tmp_path / "fetched", sha256_of(big))
    assert not part.exists()


def test_a_full_disk_keeps_the_downloaded_part(store, big, tmp_path, monkeypatch):
    store.put("big", big)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("components.storage.download.os.fsync", full)
        with pytest.raises(
            DiskSpaceError, match="the disk is full; free some space and run again, the downloaded part is kept"
        ):
            download(store, "big", tmp_path / "fetched", sha256_of(big))
    assert (tmp_path / f"fetched{PART_SUFFIX}").is_file()
    assert not (tmp_path / "fetched").exists()
    download(store, "big", tmp_path / "fetched", sha256_of(big))


def test_a_broken_connection_is_resumed_where_it_broke(endpoint, big, tmp_path, monkeypatch):
    Store(BUCKET).put("big", big)
    proxy = BreakingProxy(endpoint, 2, 1_100_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    download(Store(BUCKET), "big", tmp_path / "fetched", sha256_of(big))
    proxy.close()
    assert proxy.breaks == 0
    begins = [int(wanted.removeprefix("bytes=").partition("-")[0]) for wanted in proxy.ranges]
    assert begins[0] == 0
    assert len(begins) == 3
    assert begins == sorted(set(begins)), "each attempt begins after the bytes of the one before"


def test_a_connection_that_always_breaks_ends_in_an_error_and_a_later_process_resumes(
    endpoint, big, tmp_path, monkeypatch
):
    Store(BUCKET).put("big", big)
    proxy = BreakingProxy(endpoint, 1000, 1_100_000, 100_000)
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(StoreError, match="big: the store gives no valid answer"):
            download(Store(BUCKET), "big", tmp_path / "fetched", sha256_of(big))
    proxy.close()
    assert not (tmp_path / "fetched").exists()
    assert 0 < (tmp_path / f"fetched{PART_SUFFIX}").stat().st_size < 3_000_000
    download(Store(BUCKET), "big", tmp_path / "fetched", sha256_of(big))


def test_a_bucket_that_does_not_exist_is_named(endpoint):
    with pytest.raises(StoreError, match="s3://nobodys/x: no such bucket; create it, or correct its address"):
        Store("s3://nobodys/x").put_bytes("key", b"")


def test_a_store_that_does_not_answer_says_what_to_check(endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match="check its address, the network and, for a bucket that is not Amazon's"):
        Store(BUCKET).read("key")


def test_a_bucket_that_refuses_names_the_credentials(monkeypatch):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    with pytest.raises(StoreError, match=r"key: the store refuses .* check its credentials in the environment"):
        Store(BUCKET).read("key")
    server.shutdown()
    server.server_close()


def test_an_address_of_no_known_kind_is_refused():
    for address in ("ftp://x", "s3://", "folder"):
        with pytest.raises(StoreError, match=f"store '{address}': give an absolute path, or the bucket"):
            Store(address)


def test_a_folder_that_is_not_there_is_not_made_by_reading(tmp_path):
    with pytest.raises(StoreError, match="no such folder; correct the path, or publish a model there first"):
        Store(str(tmp_path / "mistyped"))
    assert not (tmp_path / "mistyped").exists()


def test_an_endpoint_without_a_scheme_is_named(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL = 'minio:9000': not an address; one begins with http"):
        Store(BUCKET)


def test_a_target_that_cannot_be_written_is_not_blamed_on_the_store(store, big):
    store.put("big", big)
    with pytest.raises(StoreError, match=r"/proc/lorry/fetched: cannot be written here \("):
        download(store, "big", Path("/proc/lorry/fetched"), None)


def test_an_input_from_a_bucket_is_fetched_once_and_checked(endpoint, big, tmp_path, monkeypatch):
    monkeypatch.setenv("LORRY_CACHE", str(tmp_path / "cache"))
    Store(BUCKET).put("inputs/data.jsonl", big)
    address = f"{BUCKET}/inputs/data.jsonl"
    path = local_file(address, sha256_of(big))
    assert sha256_of(path) == sha256_of(big)
    before = path.stat().st_mtime_ns
    assert local_file(address, sha256_of(big)).stat().st_mtime_ns == before
    with pytest.raises(StoreError, match="its sha256 is"):
        local_file(address, "1" * 64)


def test_an_input_without_a_known_digest_is_cached_once_under_its_own(endpoint, big, tmp_path, monkeypatch):
    monkeypatch.setenv("LORRY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    Store(BUCKET).put("inputs/data.jsonl", big)
    address = f"{BUCKET}/inputs/data.jsonl"
    paths = {local_file(address, None), local_file(address, None), local_file(address, sha256_of(big))}
    assert paths == {tmp_path / "cache" / "inputs" / sha256_of(big) / "data.jsonl"}
    copies = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == big.stat().st_size]
    assert sorted(copies) == sorted({*paths, big} if big.is_relative_to(tmp_path) else paths)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_from_a_bucket_is_checked_as_a_whole(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("LORRY_CACHE", str(tmp_path / "cache"))
    for name in ("a.json", "b.json", "not-of-a-model", "folder/deeper.json"):
        Store(BUCKET).put_bytes(f"base/{name}", name.encode())

    def names(folder: Path) -> str:
        return "".join(sorted(path.name for path in folder.glob("*.json")))

    folder = local_folder(f"{BUCKET}/base", "a.jsonb.json", ("*.json",), names)
    assert (folder / "a.json").read_bytes() == b"a.json"
    with pytest.raises(DataError, match=r"its files have the digest a.jsonb.json, not other: they were changed"):
        local_folder(f"{BUCKET}/base", "other", ("*.json",), names)
    with pytest.raises(DataError, match=r"its files have the digest a.json.*, not other: they were changed, or not"):
        local_folder(str(folder), "other", ("*.json",), names)
