"""Listing a store with sizes and times, and deleting from it: a folder and a bucket behave alike."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.errors import RefusedByStoreError, StoreError
from components.storage.store import Store
from tests.buckets import s3_server


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    if request.param == "folder":
        yield Store(str(tmp_path / "store"), create=True)
    else:
        with s3_server():
            yield Store("s3://lorry/folder")


def test_files_have_their_size_and_time_and_names_end_in_a_slash_for_folders(store):
    for key in ("b/2", "b/1", "a/deep/3", "top"):
        store.put_bytes(key, key.encode())
    assert [(file.key, file.size_bytes) for file in store.files()] == [
        ("a/deep/3", 8),
        ("b/1", 3),
        ("b/2", 3),
        ("top", 3),
    ]
    assert [file.key for file in store.files("b")] == ["b/1", "b/2"]
    assert store.files("missing") == []
    assert store.names() == ["a/", "b/", "top"]
    found = store.file("b/1")
    assert (found.key, found.size_bytes) == ("b/1", 3)
    assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=5)
    assert store.file("b/9") is None


def test_a_deleted_file_is_gone_and_one_that_is_not_there_is_no_error(store):
    for key in ("a/deep/1", "a/2"):
        store.put_bytes(key, b"x")
    for _ in range(2):
        store.delete("a/deep/1")
    assert store.keys("") == ["a/2"]
    store.delete("a/2")
    assert store.names() == []


def test_a_folder_lists_and_deletes_what_a_killed_upload_left(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.gguf#1").write_bytes(b"part")
    store = Store(str(tmp_path))
    assert store.keys("") == []
    assert [file.key for file in store.files()] == ["models/model.gguf#1"]
    store.delete("models/model.gguf#1")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_deleted_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "theirs")
    Store(str(tmp_path / "store")).delete("link")
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_folder_that_may_not_be_read_is_an_error_and_not_an_empty_one(tmp_path, monkeypatch):
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "file").touch()
    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(RefusedByStoreError, match=r"the store refuses \(.*Permission denied"):
        Store(str(tmp_path)).files()


def test_a_listing_that_the_bucket_refuses_names_the_credentials_and_a_missing_bucket_itself(monkeypatch):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with s3_server(), HTTPServer(("127.0.0.1", 0), Refusing) as server:
        with pytest.raises(StoreError, match=r"^s3://missing: no such bucket; create it, or correct its address"):
            Store("s3://missing").names()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for ask in (Store("s3://lorry").files, Store("s3://lorry").names):
            with pytest.raises(RefusedByStoreError, match="check its credentials in the environment"):
                ask()
        server.shutdown()
