"""A page under a path, whether a proxy strips it or not."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from components.chat.web.proxy import UnderPath


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Responds with the path of the request."""
    await PlainTextResponse(Request(scope).url.path)(scope, receive, send)


@pytest.mark.parametrize(
    ("root_path", "path", "seen"),
    [
        ("", "/", "/"),
        ("", "/lorry/x", "/lorry/x"),
        ("/lorry", "/lorry/", "/"),
        ("/lorry", "/lorry/answers/1", "/answers/1"),
        ("/lorry", "/answers/1", "/answers/1"),
        ("/lorry", "/lorryx/answers", "/lorryx/answers"),
        ("lorry/", "/lorry/x", "/x"),
        ("/a/b/", "/a/b/x", "/x"),
    ],
)
def test_the_path_is_removed_if_the_proxy_has_left_it(root_path, path, seen):
    assert TestClient(UnderPath(echo, root_path)).get(path).text == seen


@pytest.mark.parametrize(("root_path", "location"), [("/lorry", "lorry/"), ("/a/b", "b/")])
def test_the_path_without_its_final_slash_is_redirected_relatively(root_path, location):
    response = TestClient(UnderPath(echo, root_path), follow_redirects=False).get(root_path)
    assert (response.status_code, response.headers["location"]) == (307, location)
