"""Requests for completions: what is sent, retries, and what the person at the page is shown of a failure."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest

from components.chat.client import completions
from components.chat.client.completions import stream_completion
from components.chat.client.errors import ContextFullError, HttpError, NotServedError, ServerError
from components.chat.client.server import Server
from components.chat.client.settings import Settings
from components.chat.storage.completion import BROKEN, Completion
from tests.conftest import free_port
from tests.openai_stub import Stub

QUESTION = [{"role": "user", "content": "Hello"}]
ONE_WORD = (b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n', b"data: [DONE]\n")


class Scripted(Server):
    """A server whose requests fail with these errors, one after another, and then succeed."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("http://scripted/v1", "none")
        self._errors = list(errors)
        self.bodies: list[Mapping[str, Any]] = []

    @asynccontextmanager
    async def chat(self, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        self.bodies.append(body)
        if self._errors:
            raise self._errors.pop(0)

        async def lines() -> AsyncIterator[bytes]:
            for line in ONE_WORD:
                yield line

        yield lines()


@pytest.fixture
def waits(monkeypatch) -> Iterator[list[float]]:
    """The seconds for which a busy server was waited for; nothing really waits."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(completions.asyncio, "sleep", sleep)
    return waited


def ask(server: Server, settings: Settings = Settings(), model: str = "stub") -> list[Completion]:  # noqa: B008
    async def read() -> list[Completion]:
        try:
            return [completion async for completion in stream_completion(server, model, QUESTION, settings)]
        finally:
            await server.close()

    return asyncio.run(read())


def busy(seconds: float | None, status: int = 429) -> HttpError:
    return HttpError(status, "64 wait", "64 wait", seconds)


def test_the_request_has_the_settings_and_a_seed_only_if_there_is_one():
    server = Scripted()
    ask(server, Settings(0.7, 32, 0.5))
    ask(server, Settings(seed=7))
    plain, seeded = server.bodies
    assert plain == {
        "model": "stub", "messages": QUESTION, "temperature": 0.7, "top_p": 0.5, "max_tokens": 32, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert seeded["seed"] == 7


def test_a_busy_server_is_asked_again_when_it_says(waits):
    server = Scripted(busy(3.0), busy(0.0, 503))
    states = ask(server)
    assert waits == [3.0, 1.0], "at least a second"
    assert [state.retry_seconds for state in states] == [None, 3.0, 1.0, None, None]
    assert states[-1].text == "hi"
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([busy(61.0)], "The model server is busy. Press Retry"),
        ([busy(40.0), busy(40.0)], "The model server is busy. Press Retry"),
        ([busy(None)], "The model server is busy. Press Retry"),
        ([busy(None, 503)], "The model server is not ready: 64 wait. Press Retry"),
        ([busy(1.0, 400)], "The model server refuses: 64 wait"),
    ],
)
def test_a_server_is_not_asked_again_for_longer_than_a_minute_or_without_a_time(errors, message, waits):
    with pytest.raises(ServerError, match=message):
        ask(Scripted(*errors))
    assert sum(waits) <= 60


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (aiohttp.ClientConnectionError(), NotServedError, "http://scripted/v1 does not answer. Is it running.*Retry"),
        (TimeoutError(), NotServedError, "does not answer"),
        (HttpError(404, "no model", "no model", None), NotServedError, "refuses: no model"),
        (HttpError(400, "too many", "too many", None), NotServedError, "refuses: too many"),
        (HttpError(500, "crash", "crash", None), ServerError, "not ready: crash. Press Retry"),
        (HttpError(400, "too long", '{"code": "context_length_exceeded"}', None), ContextFullError, "too long"),
        (HttpError(500, "input is too long", "input is too long", None), ContextFullError, "too long"),
        (ValueError("bad"), ServerError, "failed: bad. Press Retry"),
    ],
)
def test_a_failure_says_what_happened_and_what_to_do(error, kind, message):
    with pytest.raises(kind, match=message) as raised:
        ask(Scripted(error))
    assert type(raised.value) is kind


def test_a_completion_of_lorrys_server_grows_and_ends_with_its_figures(server):
    (model,) = httpx.get(f"{server}/v1/models").json()["data"]
    states = ask(Server(f"{server}/v1", "none"), Settings(max_tokens=12), model["id"])
    assert states[0] == Completion()
    texts = [state.text for state in states]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    last = states[-1]
    assert last.finish_reason in ("stop", "length")
    assert 0 < last.n_tokens <= 12
    assert last.first_token_seconds is not None
    assert 0 < last.first_token_seconds <= last.seconds
    assert f"{last.n_tokens} tokens · " in last.status_line()


def test_over_http_a_stream_that_breaks_keeps_its_text_and_closing_stops_the_server():
    async def scenario(stub: Stub) -> tuple[Completion, str]:
        server = Server(f"{stub.address}/v1", "none")
        broken = [{"role": "user", "content": "break"}]
        states = [state async for state in stream_completion(server, "stub", broken, Settings())]
        stub.gone.clear()
        endless = stream_completion(server, "stub", [{"role": "user", "content": "count"}], Settings())
        async for state in endless:
            if state.text:
                break
        await endless.aclose()
        await server.close()
        return states[-1], state.text

    with Stub() as stub:
        last, text = asyncio.run(scenario(stub))
        assert stub.gone.wait(timeout=10), "the server still generates"
    assert (last.text, last.finish_reason) == ("stub heard: ", BROKEN)
    assert text.startswith("0 ")


def test_over_http_a_server_that_is_not_running_is_named():
    port = free_port()
    with pytest.raises(NotServedError, match=f"The model server at http://127.0.0.1:{port} does not answer"):
        ask(Server(f"http://127.0.0.1:{port}", "none"))
