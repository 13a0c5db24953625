"""Headers of every response."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from components.chat.web.csp import SecurityHeaders


@pytest.fixture
def client() -> TestClient:
    routes = [
        Route("/", lambda _: PlainTextResponse("page")),
        Route("/stream", lambda _: Response("data:\n\n", media_type="text/event-stream; charset=utf-8")),
    ]
    return TestClient(SecurityHeaders(Starlette(routes=routes)))


@pytest.mark.parametrize("path", ["/", "/stream", "/missing"])
def test_every_response_forbids_other_hosts(client, path):
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["connect-src"] == policy["form-action"] == policy["frame-ancestors"] == "'self'"
    assert policy["object-src"] == "'none'"
    assert not any("http" in sources or "*" in sources for sources in policy.values())
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_only_streams_are_not_buffered_by_proxies(client):
    assert client.get("/stream").headers["x-accel-buffering"] == "no"
    assert "x-accel-buffering" not in client.get("/").headers
