"""Engines over the echo model, and what tests ask of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from components.artifacts.contracts import Message
from components.model_server.engine.batching import BatchingEngine, EngineSettings
from components.model_server.engine.interface import Delta, Request
from components.model_server.engine.metrics import Metrics
from tests.components.model_server.engine.echo_model import EchoModel


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def ask(text: str = "hello", *, system: str = "", **settings: Any) -> Request:
    """A conversation of one turn."""
    messages = [Message(role="system", content=system)] if system else []
    return Request(prompt=[*messages, Message(role="user", content=text)], **settings)


async def ready_engine(model: EchoModel, *, clock: Clock | None = None, **settings: Any) -> BatchingEngine:
    """An engine that takes requests."""
    clocks = {} if clock is None else {"clock": clock}
    engine = BatchingEngine(model, EngineSettings(**settings), Metrics(), **clocks)  # type: ignore[arg-type]
    await until(lambda: engine.ready)
    return engine


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def collect(engine: BatchingEngine, request: Request) -> tuple[str, Delta]:
    """The text of the answer, and its last delta."""
    deltas = [delta async for delta in engine.stream(request)]
    return "".join(delta.text for delta in deltas), deltas[-1]


def value(engine: BatchingEngine, name: str, **labels: str) -> float:
    """What a metric says now."""
    return engine._metrics.registry.get_sample_value(name, labels) or 0.0


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end."""
    asyncio.run(scenario())
