"""What the tests of responses share: building one of them from deltas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from components.model_server.engine.interface import Delta
from components.model_server.http.responses.builder import ResponseBuilder

Make = Callable[[], ResponseBuilder]
DONE = "data: [DONE]\n\n"


async def stream(deltas: Iterable[Delta | Exception]) -> AsyncGenerator[Delta]:
    """An engine's stream; an exception is raised where it stands."""
    for delta in deltas:
        if isinstance(delta, Exception):
            raise delta
        yield delta


def body_of(builder: ResponseBuilder, deltas: Iterable[Delta | Exception]) -> dict[str, Any]:
    """The body of a response that is not streamed."""
    return asyncio.run(builder.body(stream(deltas)))


def events_of(
    builder: ResponseBuilder, deltas: Iterable[Delta | Exception], *, include_usage: bool = False
) -> list[str]:
    """The events of a streamed response, with their ends of line."""

    async def collect() -> list[str]:
        return [event async for event in builder.events(stream(deltas), include_usage=include_usage)]

    return asyncio.run(collect())


def chunks_of(events: Iterable[str]) -> list[dict[str, Any]]:
    """The JSON of the events, without heartbeats and the last event."""
    return [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
