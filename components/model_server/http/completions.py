"""From the body of a completion request through the engine to its response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Send

from components.model_server.engine import interface
from components.model_server.engine.interface import Delta, Engine, UnavailableError
from components.model_server.http.errors import NoSuchModelError
from components.model_server.http.protocol.chat_completion import ChatCompletionRequest
from components.model_server.http.protocol.completion import CompletionRequest
from components.model_server.http.responses.builder import ResponseBuilder
from components.model_server.http.responses.chat_completion import ChatCompletionBuilder
from components.model_server.http.responses.completion import CompletionBuilder
from components.model_server.http.served_model import ServedModel

T = TypeVar("T")

# nginx buffers a stream unless this header forbids it.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def complete(
    engine: Engine, served: ServedModel, body: ChatCompletionRequest | CompletionRequest, request: Request
) -> Response:
    """The response to a validated body; ``request`` carries the state that ``RequestMiddleware`` leaves.

    Raises:
        LorryError: the request cannot be answered; see ``Engine.stream``.
        HTTPException: the client went away.
    """
    require_model(served, body.model)
    if not engine.ready:
        raise UnavailableError("the model is not ready, or the server is stopping; try again in a moment")
    engine_request = body.to_engine(request.state.key, served)
    access_log_fields: dict[str, Any] = request.state.access_log_fields

    def log_counts(last: Delta) -> None:
        access_log_fields.update(
            prompt_tokens=last.prompt_tokens,
            cached_tokens=last.cached_tokens,
            completion_tokens=last.completion_tokens,
            finish_reason=last.finish_reason,
            ttft_seconds=builder.ttft_seconds,
        )

    builder = _builder(engine_request, served, log_counts)
    deltas = engine.stream(engine_request)
    # The first delta is awaited here, so that an invalid request gets a status and not a broken stream. It comes soon:
    # while the request waits in the queue, it is an empty one.
    deltas = _chain(await _unless_disconnected(request, anext(deltas)), deltas)
    if body.stream:
        events = builder.events(deltas, include_usage=body.wants_usage)
        return _EventStream(events, media_type="text/event-stream", headers=STREAM_HEADERS)
    return JSONResponse(await _unless_disconnected(request, builder.body(deltas)))


def require_model(served: ServedModel, model_id: str) -> None:
    """Check that ``model_id`` is a name of the served model.

    Raises:
        NoSuchModelError: it is not.
    """
    if not served.has_name(model_id):
        raise NoSuchModelError(f"no model {model_id!r} here; this server serves {served.name!r}")


def _builder(request: interface.Request, served: ServedModel, on_end: Callable[[Delta], None]) -> ResponseBuilder:
    if request.is_text:
        return CompletionBuilder(served.name, on_end)
    return ChatCompletionBuilder(
        served.name, on_end, opened=request.opens_reasoning, edges=served.answer_edges, tools=request.tools
    )


async def _chain(first: Delta, rest: AsyncGenerator[Delta]) -> AsyncGenerator[Delta]:
    try:
        yield first
        async for delta in rest:
            yield delta
    finally:
        await rest.aclose()


class _EventStream(StreamingResponse):
    """Closes its events when the client disconnects while one is sent: the slot must not wait for the collector."""

    async def stream_response(self, send: Send) -> None:
        """Send the events."""
        async with aclosing(cast(AsyncGenerator[str], self.body_iterator)):
            await super().stream_response(send)


async def _unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client disconnects.

    Raises:
        HTTPException: 499; no client reads it, but the access log has it.
    """
    task, gone = asyncio.ensure_future(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(499, "the client went away")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})


async def _disconnected(request: Request) -> None:
    """Returns when the client has disconnected; the body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
