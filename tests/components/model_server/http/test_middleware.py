"""What every request passes before its route: id, bounds, key, admission; and its line of log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from components.model_server.engine.interface import Delta, QueueFullError
from components.model_server.engine.metrics import Metrics
from components.model_server.http.api_keys import ApiKeys
from components.model_server.http.middleware import MAX_BODY_BYTES, RequestMiddleware
from tests.components.model_server.http.application import (
    BODY,
    ScriptedEngine,
    application,
    call,
    calls,
    message_of,
)

KEY = "a-key-of-the-tests-000"
END = Delta("", "stop", prompt_tokens=5, completion_tokens=2, cached_tokens=4)


class Route:
    """An application that notes the paths which reach it, and the state of the last request."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.state: dict[str, Any] = {}

    async def __call__(self, scope, receive, send) -> None:
        self.paths.append(scope["path"])
        self.state = scope["state"]
        await receive()
        await PlainTextResponse("here")(scope, receive, send)


@pytest.fixture
def route() -> Route:
    return Route()


def around(route: Route, engine: ScriptedEngine | None = None, keys: dict[str, str] | None = None) -> RequestMiddleware:
    return RequestMiddleware(route, engine or ScriptedEngine(), ApiKeys(keys or {}), Metrics())  # type: ignore[arg-type]


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.getMessage().startswith("{")]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "components.model_server.http.middleware"):
        yield caplog


def test_a_full_queue_refuses_before_the_body_is_read_with_a_time_to_retry(route):
    engine = ScriptedEngine()
    engine.full = QueueFullError("64 requests are waiting already; try again later", 7)
    *refused, models = calls(
        around(route, engine),
        [
            ("POST", "/v1/chat/completions", {"json": {}}),
            ("POST", "/v1/completions", {"json": {}}),
            ("GET", "/v1/models", {}),
        ],
    )
    for response in refused:
        assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
        assert response.json()["error"]["code"] == "queue_full"
        assert message_of(response) == "64 requests are waiting already; try again later"
    assert models.status_code == 200
    assert route.paths == ["/v1/models"]


@pytest.mark.parametrize("header", [None, "Bearer wrong-key-wrong-key", KEY, f"Basic {KEY}"])
def test_without_a_valid_key_nothing_reaches_a_route(route, header):
    headers = {} if header is None else {"Authorization": header}
    refused = call(around(route, keys={"key-1": KEY}), json=BODY, headers=headers)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert "'Authorization: Bearer KEY'" in message_of(refused)
    assert route.paths == []


def test_the_route_gets_the_name_of_the_key(route):
    call(around(route, keys={"key-1": KEY}), json=BODY, headers={"Authorization": f"Bearer {KEY}"})
    assert route.state["key"] == "key-1"
    call(around(route), json=BODY)
    assert route.state["key"] == ""


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/v1/health", "/metrics", "/health/"])
def test_probes_need_no_key_and_are_not_logged(route, log, path):
    assert call(around(route, keys={"key-1": KEY}), "GET", path).text == "here"
    assert lines_of(log) == []


@pytest.mark.parametrize(
    ("path", "normalized"),
    [
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("///v1/models//", "/v1/models"),
        ("/", "/"),
    ],
)
def test_slashes_too_many_are_removed(route, path, normalized):
    call(around(route), "POST", f"http://lorry{path}", json=BODY)
    assert route.paths == [normalized]


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "-1", "many", "1e3"])
def test_a_length_over_the_bound_or_no_number_is_refused_unread(route, length):
    refused = call(around(route), headers={"Content-Length": length, "Content-Type": "application/json"})
    assert refused.status_code == 413
    assert str(MAX_BODY_BYTES) in message_of(refused)
    assert route.paths == []


def test_a_body_without_a_length_is_bounded_while_it_is_read():
    async def endless():
        while True:
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    refused = call(application(ScriptedEngine()), content=endless(), headers=headers)
    assert refused.status_code == 413
    assert str(MAX_BODY_BYTES) in message_of(refused)


@pytest.mark.parametrize(
    ("headers", "facts"),
    [
        ({"Content-Type": ""}, ["Content-Type is missing", "'Content-Type: application/json'"]),
        ({"Content-Type": "text/plain"}, ["Content-Type is text/plain", "application/json"]),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, ["Content-Encoding gzip", "as it is"]),
    ],
)
def test_a_body_that_is_no_plain_json_by_its_headers_is_a_415(route, headers, facts):
    refused = call(around(route), content=b"{}", headers=headers)
    assert refused.status_code == 415
    for fact in facts:
        assert fact in message_of(refused)
    assert route.paths == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "application/vnd.api+json"},
        {"Content-Type": "APPLICATION/JSON"},
        {"Content-Type": "application/json", "Content-Encoding": "identity"},
    ],
)
def test_json_under_its_other_names_is_read(route, headers):
    assert call(around(route), content=b"{}", headers=headers).text == "here"


@pytest.mark.parametrize("kept", ["my-request.1", "x" * 64])
def test_a_harmless_id_of_the_client_is_kept(route, log, kept):
    assert call(around(route), "GET", "/v1/models", headers={"X-Request-Id": kept}).headers["X-Request-Id"] == kept
    assert lines_of(log)[0]["request_id"] == kept


@pytest.mark.parametrize("replaced", ['a"}{b', "x" * 65, "a b", ""])
def test_an_id_that_could_forge_a_line_of_log_is_replaced(route, log, replaced):
    new = call(around(route), "GET", "/v1/models", headers={"X-Request-Id": replaced}).headers["X-Request-Id"]
    assert len(new) == 32
    assert int(new, 16) >= 0
    assert lines_of(log)[0]["request_id"] == new


@pytest.mark.parametrize("stream", [False, True])
def test_a_line_of_log_has_counts_and_none_of_the_words(log, stream):
    app = application(ScriptedEngine(Delta("marmalade"), END), {"key-1": KEY})
    body = {**BODY, "messages": [{"role": "user", "content": "Say marmalade"}], "stream": stream}
    call(app, json=body, headers={"Authorization": f"Bearer {KEY}"})
    (line,) = lines_of(log)
    assert line.pop("seconds") >= line.pop("ttft_seconds") >= 0
    assert len(line.pop("request_id")) == 32
    assert line == {
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "key": "key-1",
        "prompt_tokens": 5,
        "cached_tokens": 4,
        "completion_tokens": 2,
        "finish_reason": "stop",
    }
    assert "marmalade" not in log.text
    assert KEY not in log.text


def test_what_is_no_http_request_is_passed_on(log):
    passed: list[str] = []

    async def app(scope, receive, send) -> None:
        passed.append(scope["type"])

    middleware = RequestMiddleware(app, ScriptedEngine(), ApiKeys({}), Metrics())  # type: ignore[arg-type]
    asyncio.run(middleware({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert passed == ["lifespan"]
    assert lines_of(log) == []


def test_refused_requests_are_logged_too_and_long_paths_are_cut(log):
    call(application(ScriptedEngine(), {"key-1": KEY}), path="/" + "x" * 5000, json=BODY)
    (line,) = lines_of(log)
    assert (line["status"], len(line["path"])) == (401, 128)


def test_an_error_of_the_application_is_a_500_with_an_id_and_a_traceback_in_the_log(log):
    async def broken(scope, receive, send) -> None:
        raise ZeroDivisionError

    app = RequestMiddleware(broken, ScriptedEngine(), ApiKeys({}), Metrics())  # type: ignore[arg-type]
    response = call(app, "GET", "/v1/models", headers={"X-Request-Id": "a"})
    assert (response.status_code, response.headers["X-Request-Id"]) == (500, "a")
    assert "ZeroDivisionError" in message_of(response)
    assert lines_of(log)[0]["status"] == 500
    assert any(record.exc_info for record in log.records)


def test_an_error_after_the_response_has_begun_is_passed_on(log):
    async def broken(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    app = RequestMiddleware(broken, ScriptedEngine(), ApiKeys({}), Metrics())  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        _raising(app)
    assert lines_of(log)[0]["status"] == 200


def _raising(app: RequestMiddleware) -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lorry") as client:
            await client.get("/v1/models")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"content": b"", "headers": {"Content-Length": "x"}}, "invalid"),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, "invalid"),
        ({"json": {}, "headers": {"Authorization": "Bearer no"}}, "unauthorized"),
    ],
)
def test_refused_requests_are_counted_by_reason(route, request_, reason):
    metrics = Metrics()
    keys = ApiKeys({"key-1": KEY} if reason == "unauthorized" else {})
    call(RequestMiddleware(route, ScriptedEngine(), keys, metrics), **request_)  # type: ignore[arg-type]
    assert metrics.registry.get_sample_value("lorry_requests_rejected_total", {"reason": reason}) == 1
