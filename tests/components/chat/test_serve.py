"""The page's application, put together as it is served but without a socket."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import bcrypt
import pytest
from gradio.routes import templates
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from components.chat.serve import PageOptions, serve_page
from components.chat.ui.gradio_workarounds.markdown_script import ASSETS
from components.chat.web.identity import COOKIE
from components.chat.web.shutdown import ChatPageServer


@pytest.fixture
def served(monkeypatch) -> list[ASGIApp]:
    """The applications that would be served."""
    apps: list[ASGIApp] = []
    monkeypatch.setattr(ChatPageServer, "run", lambda self, sockets: apps.append(self.config.app))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(templates.env, "loader", templates.env.loader)
    monkeypatch.setattr(templates.env, "filters", dict(templates.env.filters))
    monkeypatch.setattr(templates.env, "cache", None)
    return apps


def client_of(
    served: list[ASGIApp], data_dir: Path, *, users_file: Path | None = None, user_header: str | None = None
) -> TestClient:
    """A client of a page that no model server answers."""
    options = PageOptions(["http://127.0.0.1:9/v1"], "Ours", data_dir, ["One?"], users_file, user_header, "/lorry")

    async def serve() -> None:
        # Without a running event loop Gradio would make one and leave it open.
        with socket.socket() as bound:
            serve_page(options, bound, "http://127.0.0.1:0")

    asyncio.run(serve())
    return TestClient(served[-1], follow_redirects=False)


def test_a_page_for_browsers_has_its_own_routes_before_gradios(served, tmp_path):
    client = client_of(served, tmp_path)
    assert client.get("/livez").json() == {"status": "ok"}
    page = client.get("/lorry/")
    assert "## Ours" in page.text
    assert "One?" in page.text
    assert COOKIE in client.cookies
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    (script,) = [path.name for path in ASSETS.glob("markdown-code-*.js")]
    assert "(?<maths>" in client.get(f"/assets/{script}").text
    for kind in ("answers", "comparisons"):
        stream = client.get(f"/lorry/{kind}/unknown")
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "event: gone" in stream.text
    upload = client.post("/lorry/gradio_api/upload", files={"files": b"x"})
    assert (upload.status_code, upload.text) == (404, "nothing can be uploaded here")
    assert (tmp_path / "chat.sqlite").is_file()


def test_a_page_behind_a_proxy_that_names_users_rejects_requests_without_a_name(served, tmp_path):
    client = client_of(served, tmp_path, user_header="X-User")
    assert client.get("/answers/x").status_code == 401
    assert client.get("/answers/x", headers={"X-User": "ann"}).status_code == 200
    assert client.get("/config").status_code == 401
    assert COOKIE not in client.cookies
    assert not (tmp_path / "cookie-secret").exists()


def test_a_page_with_a_login_shows_a_form_and_streams_nothing_before(served, tmp_path):
    users = tmp_path / "users"
    users.write_text(f"ann:{bcrypt.hashpw(b'right', bcrypt.gensalt(4)).decode()}\n")
    client = client_of(served, tmp_path, users_file=users)
    assert client.get("/answers/x").status_code == 401
    assert client.post("/login", data={"username": "ann", "password": "right"}).status_code == 200
    assert "event: gone" in client.get("/answers/x").text
