"""From a body through the engine to a response: what reaches the engine, and clients that disconnect."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from components.model_server.engine.interface import Delta, Request
from tests.components.model_server.http.application import BODY, END, ScriptedEngine, application, call, message_of


def test_a_chat_and_a_text_have_their_own_forms():
    chat = call(application(ScriptedEngine(Delta("Hi"), END)), json=BODY).json()
    assert (chat["object"], chat["choices"][0]["message"]["content"]) == ("chat.completion", "Hi")
    body = {"model": "m", "prompt": "Lorry"}
    text = call(application(ScriptedEngine(Delta("Hi"), END)), path="/v1/completions", json=body).json()
    assert (text["object"], text["choices"][0]["text"]) == ("text_completion", "Hi")


def test_a_stream_is_not_buffered_by_proxies():
    response = call(application(ScriptedEngine(Delta("Hi"), END)), json={**BODY, "stream": True})
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert (response.headers["X-Accel-Buffering"], response.headers["Cache-Control"]) == ("no", "no-store")
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_invalid_for_the_engine_is_a_status_and_no_broken_stream(stream):
    response = call(application(ScriptedEngine(ValueError("x"))), json={**BODY, "stream": stream})
    assert response.status_code == 500


def test_the_engine_gets_the_name_of_the_key():
    engine = ScriptedEngine(END)
    key = "a-key-of-the-tests-000"
    call(application(engine, {"key-1": key}), json=BODY, headers={"Authorization": f"Bearer {key}"})
    assert [request.key for request in engine.requests] == ["key-1"]


def test_an_alias_is_answered_under_the_models_name():
    assert call(application(ScriptedEngine(END)), json={**BODY, "model": "m-Q8_0"}).json()["model"] == "m"


def test_an_engine_that_is_not_ready_is_a_503_and_is_not_asked():
    engine = ScriptedEngine(END, ready=False)
    response = call(application(engine), json=BODY)
    assert (response.status_code, response.headers["Retry-After"], engine.requests) == (503, "5", [])
    assert "try again" in message_of(response)


class Endless(ScriptedEngine):
    """Its deltas never end, and after ``n_deltas`` none comes."""

    def __init__(self, n_deltas: int) -> None:
        super().__init__()
        self.n_deltas = n_deltas

    async def stream(self, request: Request) -> AsyncGenerator[Delta]:
        try:
            for _ in range(self.n_deltas):
                yield Delta("x")
            await asyncio.Event().wait()
        finally:
            self.n_closed += 1


def disconnected(engine: ScriptedEngine, body: dict[str, Any], *, after: int) -> list[dict[str, Any]]:
    """What an application sends to a client that disconnects after ``after`` messages."""
    sent: list[dict[str, Any]] = []
    content = json.dumps(body).encode()
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "server": ("lorry", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip

    async def scenario() -> None:
        gone = asyncio.Event()
        body_sent = False
        if after == 0:
            gone.set()

        async def receive() -> dict[str, Any]:
            nonlocal body_sent
            if not body_sent:
                body_sent = True
                return {"type": "http.request", "body": content, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) >= after:
                gone.set()

        await asyncio.wait_for(application(engine)(scope, receive, send), 30)

    asyncio.run(scenario())
    return sent


@pytest.mark.parametrize(("n_deltas", "stream"), [(0, False), (3, False), (0, True)])
def test_a_client_that_disconnects_before_the_response_ends_the_engines_stream(n_deltas, stream, caplog):
    engine = Endless(n_deltas)
    with caplog.at_level(logging.INFO, "components.model_server.http.middleware"):
        disconnected(engine, {**BODY, "stream": stream}, after=0)
    assert engine.n_closed == 1
    assert json.loads(caplog.records[-1].getMessage())["status"] == 499


def test_a_client_that_disconnects_within_a_stream_ends_the_engines_stream():
    engine = Endless(3)
    sent = disconnected(engine, {**BODY, "stream": True}, after=3)
    assert engine.n_closed == 1
    assert sent[0]["status"] == 200
    assert b"data: [DONE]" not in b"".join(message.get("body", b"") for message in sent)
