"""Gradio's routes: no uploads, relative redirects, and users as Gradio finds them."""

from __future__ import annotations

import asyncio

import gradio as gr
import pytest
from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse
from starlette.testclient import TestClient

from components.chat.ui.gradio_workarounds.http import GradioRoutes, mounted_page, user_of_request


def page_with(**authentication: object) -> FastAPI:
    """Gradio's smallest page."""
    # Without a running event loop Gradio would make one and leave it open.
    return asyncio.run(_page_with(**authentication))


async def _page_with(**authentication: object) -> FastAPI:
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("page")
    app = FastAPI()
    app.add_middleware(GradioRoutes)
    app.add_api_route("/away", lambda: RedirectResponse("http://behind-the-proxy/"))
    app.add_api_route("/here", lambda: RedirectResponse("other"))
    return gr.mount_gradio_app(app, page, path="/", ssr_mode=False, **authentication)


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(page_with(), follow_redirects=False)


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/upload/", "/upload"])
def test_uploads_are_refused(client, path):
    response = client.post(path, files={"files": b"x"})
    assert (response.status_code, response.text) == (404, "nothing can be uploaded here")


def test_without_the_middleware_gradio_would_take_the_upload(client, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    response = TestClient(mounted_page(client.app)).post("/gradio_api/upload", files={"files": b"x"})
    assert response.status_code == 200, "the workaround is not needed any more"


def test_a_redirect_never_names_a_host(client):
    assert client.get("/away").headers["location"] == "./"
    assert client.get("/here").headers["location"] == "other"


def test_the_mounted_page_is_gradios_application(client):
    page = mounted_page(client.app)
    assert isinstance(page, gr.routes.App)
    assert hasattr(page, "stop_event")


def user(app: FastAPI, client: TestClient) -> str | None:
    """The user of a request with the client's cookies."""
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    request = Request({"type": "http", "headers": [(b"cookie", cookies.encode()), (b"user", b"ann")]})
    return user_of_request(mounted_page(app))(request)


def test_a_user_who_logged_in_at_gradios_form_is_known():
    app = page_with(auth=lambda name, password: (name, password) == ("ann", "right"))
    client = TestClient(app)
    assert user(app, client) is None
    client.post("/login", data={"username": "ann", "password": "wrong"})
    assert user(app, client) is None
    assert client.post("/login", data={"username": "ann", "password": "right"}).status_code == 200
    assert user(app, client) == "ann"


def test_a_user_of_a_header_is_known_and_an_empty_one_is_nobody():
    app = page_with(auth_dependency=lambda request: request.headers.get("user"))
    assert user(app, TestClient(app)) == "ann"
    app = page_with(auth_dependency=lambda request: request.headers.get("absent", ""))
    assert user(app, TestClient(app)) is None
