"""A registry that gives a token for each right, as the public ones do: one for reading does not let push."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from components.errors import StoreError
from components.storage import container_registry
from components.storage.container_registry import INDEX, ContainerRegistry, digest_of


class TokenRegistry(ThreadingHTTPServer):
    """As much of a registry as a push asks for. A token is the scope that it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_port}"
        self.blobs: dict[str, bytes] = {}
        self.scopes: list[str] = []
        self.pushing_allowed = True
        self.upload_at = "/v2/models/blobs/uploads/1?state=x"
        self.checks_uploads = True
        self.uploaded_with: list[str | None] = []
        self.answering = threading.Event()
        self.answering.set()


class _Handler(BaseHTTPRequestHandler):
    server: TokenRegistry

    def _may(self, right: str) -> bool:
        self.server.answering.wait(10)
        scope = f"repository:models:{right}"
        if self.headers.get("Authorization") == f"Bearer {scope}":
            return True
        challenge = f'Bearer realm="http://{self.server.host}/token",service="test",scope="{scope}"'
        self._answer(401, {"WWW-Authenticate": challenge})
        return False

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/token":
            (scope,) = parse_qs(asked.query)["scope"]
            self.server.scopes.append(scope)
            may = self.server.pushing_allowed or not scope.endswith("push")
            return self._answer(200, {}, json.dumps({"token": scope if may else "of no use"}).encode())
        if self._may("pull"):
            self._answer(200 if asked.path == "/v2/" else 404, {})

    def do_HEAD(self) -> None:
        if self._may("pull"):
            found = self.server.blobs.get(self.path.rpartition("/")[2])
            self._answer(404 if found is None else 200, {}, found or b"")

    def do_POST(self) -> None:
        if self._may("pull,push"):
            self._answer(202, {"Location": self.server.upload_at})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.uploaded_with.append(self.headers.get("Authorization"))
        if not self.server.checks_uploads or self._may("pull,push"):
            self.server.blobs[digest_of(content)] = content
            self._answer(201, {})

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def tokens() -> Iterator[TokenRegistry]:
    yield from serving()


@pytest.fixture
def other_server() -> Iterator[TokenRegistry]:
    yield from serving()


def serving() -> Iterator[TokenRegistry]:
    with TokenRegistry() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.answering.set()
        server.shutdown()


def test_a_push_after_a_look_asks_for_a_token_that_lets_push(tokens):
    registry = ContainerRegistry(f"{tokens.host}/models")
    content = b"weights"
    assert registry.blob_size(digest_of(content)) is None
    registry.put_blob(digest_of(content), len(content), lambda: io.BytesIO(content))
    assert registry.blob_size(digest_of(content)) == len(content)
    assert registry.put_manifest(b"{}", INDEX, tag="newest") == digest_of(b"{}")
    assert tokens.blobs == {digest_of(content): content, digest_of(b"{}"): b"{}"}
    assert {"repository:models:pull", "repository:models:pull,push"} == set(tokens.scopes)


def test_who_may_read_and_not_push_is_named_with_the_variables(tokens, monkeypatch):
    monkeypatch.setenv("LORRY_OCI_USER", "reader")
    tokens.pushing_allowed = False
    registry = ContainerRegistry(f"{tokens.host}/models")
    assert registry.blob_size(digest_of(b"x")) is None
    with pytest.raises(StoreError) as caught:
        registry.put_blob(digest_of(b"x"), 1, lambda: io.BytesIO(b"x"))
    assert str(caught.value) == (
        f"{tokens.host}/models: {tokens.host} does not let the user reader push; "
        "set LORRY_OCI_USER and LORRY_OCI_PASSWORD"
    )


def test_an_upload_at_another_server_goes_there_without_the_login(tokens, other_server):
    other_server.checks_uploads = False
    tokens.upload_at = f"http://{other_server.host}/presigned?key=x"
    registry = ContainerRegistry(f"{tokens.host}/models")
    registry.put_blob(digest_of(b"weights"), 7, lambda: io.BytesIO(b"weights"))
    assert other_server.blobs == {digest_of(b"weights"): b"weights"}
    assert other_server.uploaded_with == [None]


def test_an_upload_at_the_registry_s_whole_address_goes_with_the_login(tokens):
    tokens.upload_at = f"http://{tokens.host}/v2/models/blobs/uploads/1"
    registry = ContainerRegistry(f"{tokens.host}/models")
    registry.put_blob(digest_of(b"weights"), 7, lambda: io.BytesIO(b"weights"))
    assert tokens.uploaded_with == ["Bearer repository:models:pull,push"]


def test_an_upload_that_would_leave_https_is_refused(tokens, monkeypatch):
    registry = ContainerRegistry(f"{tokens.host}/models")
    monkeypatch.setattr(registry, "_ask", lambda *_, **__: Response())
    monkeypatch.setattr(registry, "_scheme", "https")
    with pytest.raises(StoreError) as caught:
        registry.put_blob(digest_of(b"x"), 1, lambda: io.BytesIO(b"x"))
    assert str(caught.value) == (
        f"{tokens.host}/models: {tokens.host} wants the upload at http://registry.example, unencrypted; correct the "
        "address that the registry gives itself (behind a proxy: X-Forwarded-Proto, or its external URL)"
    )


class Response:
    """What a registry behind a proxy answers that does not know that it is behind one."""

    headers: ClassVar[dict[str, str]] = {"Location": "http://registry.example/v2/models/blobs/uploads/1"}


def test_a_registry_that_falls_silent_ends_in_an_error(tokens, monkeypatch):
    monkeypatch.setattr(container_registry, "SECONDS_TO_REPLY", 0.2)
    registry = ContainerRegistry(f"{tokens.host}/models")
    tokens.answering.clear()
    with pytest.raises(StoreError) as caught:
        registry.manifest_digest("newest")
    assert str(caught.value).startswith(f"{tokens.host}/models: {tokens.host} broke off (")
    assert str(caught.value).endswith("Read timed out. (read timeout=0.2)); try again")
