"""The engine's own promises, with a stand-in for the model whose pace the test sets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
import uvicorn

from components.contracts import Message
from components.model_server.api import create_app, stopping_server
from components.model_server.engine import (
    ChatRequest,
    Piece,
    PromptTooLongError,
    QueueFullError,
    SerialEngine,
    StoppingError,
    _StoppingText,
)
from tests.conftest import free_port


class PacedModel:
    """Says ``words``; each token waits until the test lets it go."""

    n_ctx = 16

    def __init__(self, words: str = "abcdefgh") -> None:
        self.words = words
        self.go = threading.Semaphore(1)  # one for the warm-up

    def prompt_tokens(self, messages: Sequence[Message]) -> list[int]:
        return [0] * len(messages[-1].content.split())

    def generate(self, tokens: Sequence[int], _: Any) -> Iterator[int]:
        for character in self.words:
            self.go.acquire()
            yield ord(character)
        yield 0

    def is_end(self, token: int) -> bool:
        return token == 0

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def close(self) -> None:
        self.closed = True


def ask(text: str = "hi", **settings: Any) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content=text)], **settings)


async def collect(engine: SerialEngine, request: ChatRequest) -> tuple[str, Piece]:
    pieces = [piece async for piece in engine.stream(request)]
    return "".join(piece.text for piece in pieces), pieces[-1]


def engine_of(model: PacedModel, max_waiting: int = 4) -> SerialEngine:
    return SerialEngine(model, "paced", max_waiting)  # type: ignore[arg-type]


async def wait_until_ready(engine: SerialEngine) -> None:
    async with asyncio.timeout(10):
        while not engine.ready:
            await asyncio.sleep(0.01)


def test_an_answer_ends_with_stop_and_its_counts():
    async def scenario() -> None:
        model = PacedModel()
        engine = engine_of(model)
        await wait_until_ready(engine)
        model.go.release(100)
        text, last = await collect(engine, ask("two words"))
        assert (text, last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("abcdefgh", "stop", 2, 8)
        text, last = await collect(engine, ask(max_tokens=3))
        assert (text, last.finish_reason, last.completion_tokens) == ("abc", "length", 3)
        engine.close()
        assert model.closed

    asyncio.run(scenario())


def test_the_context_bounds_an_answer_and_a_prompt():
    async def scenario() -> None:
        model = PacedModel("x" * 40)
        engine = engine_of(model)
        await wait_until_ready(engine)
        model.go.release(100)
        _, last = await collect(engine, ask("w " * 10))
        assert (last.finish_reason, last.completion_tokens) == ("length", 6)
        with pytest.raises(PromptTooLongError, match="the prompt has 16 tokens and the context holds 16"):
            await collect(engine, ask("w " * 16))
        engine.close()

    asyncio.run(scenario())


def test_requests_wait_their_turn_and_past_the_bound_they_are_refused_at_once():
    async def scenario() -> None:
        model = PacedModel()
        engine = engine_of(model, max_waiting=2)
        await wait_until_ready(engine)
        first = asyncio.create_task(collect(engine, ask()))
        await asyncio.sleep(0.1)  # the engine's thread takes it
        waiting = [asyncio.create_task(collect(engine, ask())) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(QueueFullError, match="2 requests are waiting already; try again later"):
            await collect(engine, ask())
        model.go.release(100)
        answers = await asyncio.gather(first, *waiting)
        assert [(text, last.finish_reason) for text, last in answers] == [("abcdefgh", "stop")] * 3
        engine.close()

    asyncio.run(scenario())


def test_a_closed_stream_frees_the_place_after_the_token_it_is_in():
    async def scenario() -> None:
        model = PacedModel("a" * 1000)
        engine = engine_of(model)
        await wait_until_ready(engine)
        stream = engine.stream(ask())
        model.go.release()
        assert (await anext(stream)).text == "a"
        await stream.aclose()
        model.go.release(10)
        _, last = await collect(engine, ask(max_tokens=2))
        assert last.finish_reason == "length"
        engine.close()

    asyncio.run(scenario())


def test_closing_ends_a_running_stream_with_a_finish_reason():
    async def scenario() -> None:
        model = PacedModel("a" * 1000)
        engine = engine_of(model)
        await wait_until_ready(engine)
        running = asyncio.create_task(collect(engine, ask()))
        await asyncio.sleep(0.1)
        closing = threading.Thread(target=engine.close)
        closing.start()
        model.go.release(2)
        text, last = await running
        assert (last.finish_reason, len(text) <= 2) == ("length", True)
        await asyncio.to_thread(closing.join, 10)
        assert not engine.ready

    asyncio.run(scenario())


def test_who_waits_when_the_engine_stops_is_told(monkeypatch):
    async def scenario() -> None:
        model = PacedModel("a" * 1000)
        engine = engine_of(model)
        await wait_until_ready(engine)
        running = asyncio.create_task(collect(engine, ask()))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(collect(engine, ask()))
        await asyncio.sleep(0.1)
        engine.stop()
        model.go.release(2)
        assert (await running)[1].finish_reason == "length"
        with pytest.raises(StoppingError, match="the server is stopping; ask again"):
            await waiting
        engine.close()

    asyncio.run(scenario())


def test_a_client_that_leaves_before_its_whole_answer_frees_the_place():
    model = PacedModel("a" * 1000)
    engine = engine_of(model)
    port = free_port()
    server = stopping_server(uvicorn.Config(create_app(engine), port=port, log_level="error"), engine)
    thread = threading.Thread(target=server.run)
    thread.start()
    address = f"http://127.0.0.1:{port}"
    body = {"model": "paced", "messages": [{"role": "user", "content": "hi"}]}
    try:
        while not (engine.ready and server.started):
            time.sleep(0.01)
        model.go.release(2)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/v1/chat/completions", json=body, timeout=1.0)
        time.sleep(0.5)  # the server looks every 0.2 s
        model.go.release(4)
        answer = httpx.post(f"{address}/v1/chat/completions", json={**body, "max_tokens": 2}, timeout=10).json()
        assert answer["choices"][0]["finish_reason"] == "length"
    finally:
        server.should_exit = True
        model.go.release(10)
        thread.join(timeout=10)


def test_a_failing_request_reaches_its_client_and_the_next_is_served(monkeypatch):
    async def scenario() -> None:
        model = PacedModel()
        engine = engine_of(model)
        await wait_until_ready(engine)
        model.go.release(100)
        with monkeypatch.context() as broken:
            broken.setattr(model, "piece", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await collect(engine, ask())
        assert (await collect(engine, ask()))[1].finish_reason == "stop"
        engine.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("pieces", "stop", "expected", "stopped"),
    [
        (["ab", "cd"], [], "abcd", False),
        (["ab", "cd"], ["bc"], "a", True),
        (["ab", "cd"], ["dx"], "abcd", False),
        (["one ", "EN", "D two"], ["END"], "one ", True),
        (["x", "y", "z"], ["yz", "z"], "x", True),
        ([b"\xc3", b"\xa9!"], ["!"], "é", True),
        ([b"\xc3"], [], "\ufffd", False),
    ],
)
def test_stop_strings_are_cut_wherever_tokens_part_them(pieces, stop, expected, stopped):
    text, said = _StoppingText(stop), ""
    for piece in pieces:
        said += text.feed(piece if isinstance(piece, bytes) else piece.encode())
        if text.stopped:
            break
    said += text.rest()
    assert (said, text.stopped) == (expected, stopped)
