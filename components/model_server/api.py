"""The HTTP face: OpenAI's chat API and the probes of Kubernetes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.exceptions import HTTPException

from components.errors import LorryError
from components.model_server.engine import Engine, Piece, PromptTooLongError, QueueFullError, StoppingError
from components.model_server.wire import ChatCompletionRequest, Usage, WireError

log = logging.getLogger(__name__)
T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.2
# nginx buffers a stream unless told not to.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def create_app(engine: Engine) -> FastAPI:
    """The application around an engine; it closes the engine when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    app = FastAPI(title="Lorry model server", docs_url=None, redoc_url=None, lifespan=lifespan)
    started = int(time.time())
    _answer_errors_as_openai_does(app)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """The model is loaded and has computed a token."""
        return JSONResponse({"status": "ok" if engine.ready else "not ready"}, 200 if engine.ready else 503)

    metrics_registry = _metrics(engine)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(metrics_registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [_model(engine, started)]}

    @app.get("/v1/models/{model_id:path}")
    async def model(model_id: str) -> dict[str, Any]:
        """The served model, by its name."""
        _require_model(engine, model_id)
        return _model(engine, started)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatCompletionRequest, request: Request) -> Response:
        """One answer, whole or streamed."""
        _require_model(engine, body.model)
        if not engine.ready:
            raise HTTPException(503, "the model is not ready, or the server is stopping; try again in a moment")
        answer = _Answer(engine.model_id)
        pieces = engine.stream(body.to_engine())
        # The first piece is awaited here, so that what is wrong with a request is a status and not a broken stream.
        first = await _unless_gone(request, anext(pieces))
        if body.stream:
            events = answer.events(first, pieces, include_usage=body.wants_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)
        return JSONResponse(await _unless_gone(request, answer.whole(first, pieces)))

    return app


def _metrics(engine: Engine) -> CollectorRegistry:
    """What an autoscaler goes by."""
    registry = CollectorRegistry()
    waiting = Gauge("lorry_requests_waiting", "Requests that wait for their turn", registry=registry)
    waiting.set_function(lambda: engine.waiting)
    return registry


def stopping_server(config: uvicorn.Config, engine: Engine) -> uvicorn.Server:
    """A uvicorn server that tells the engine to stop at the first SIGTERM or Ctrl-C, not after the last connection."""

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            engine.stop()
            super().handle_exit(sig, frame)

    return Server(config)


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away.

    Raises:
        HTTPException: 499; nobody is there to read it, but the access log is.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=SECONDS_BETWEEN_LOOKS)
        if not task.done() and await request.is_disconnected():
            task.cancel()
            await asyncio.wait({task})
            raise HTTPException(499, "the client went away")
    return task.result()


class _Answer:
    """One answer in OpenAI's words."""

    def __init__(self, model_id: str) -> None:
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model_id}

    async def whole(self, first: Piece, rest: AsyncGenerator[Piece]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        text, last = first.text, first
        async for piece in rest:
            text, last = text + piece.text, piece
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": last.finish_reason}
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": _usage(last)}

    async def events(self, first: Piece, rest: AsyncGenerator[Piece], *, include_usage: bool) -> AsyncIterator[str]:
        """Server-sent events: the role, the pieces, the finish reason, the counts when wanted, and [DONE]."""
        yield self._chunk({"role": "assistant", "content": ""})
        last = first
        # aclosing: when the client goes away this generator is closed, and with it the engine's.
        async with aclosing(_chain(first, rest)) as pieces:
            async for piece in pieces:
                last = piece
                if piece.text:
                    yield self._chunk({"content": piece.text})
        yield self._chunk({}, last.finish_reason)
        if include_usage:
            yield _event(json.dumps({**self._chunk_head(), "choices": [], "usage": _usage(last)}))
        yield _event("[DONE]")

    def _chunk_head(self) -> dict[str, Any]:
        return {**self.head, "object": "chat.completion.chunk"}

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(json.dumps({**self._chunk_head(), "choices": [choice]}, ensure_ascii=False))


def _event(data: str) -> str:
    return f"data: {data}\n\n"


async def _chain(first: Piece, rest: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def _usage(last: Piece) -> dict[str, int]:
    total = last.prompt_tokens + last.completion_tokens
    usage = Usage(prompt_tokens=last.prompt_tokens, completion_tokens=last.completion_tokens, total_tokens=total)
    return usage.model_dump()


def _model(engine: Engine, started: int) -> dict[str, Any]:
    return {"id": engine.model_id, "object": "model", "created": started, "owned_by": "lorry"}


def _require_model(engine: Engine, model_id: str) -> None:
    if model_id != engine.model_id:
        raise HTTPException(404, f"no model {model_id!r} here; this server serves {engine.model_id!r}")


def _answer_errors_as_openai_does(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return _error(400, f"{place or 'body'}: {first['msg']}", "invalid_request_error", param=place or None)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
        return _error(error.status_code, str(error.detail), kind)

    @app.exception_handler(PromptTooLongError)
    async def too_long(_: Request, error: PromptTooLongError) -> JSONResponse:
        return _error(400, str(error), "invalid_request_error", param="messages", code="context_length_exceeded")

    @app.exception_handler(QueueFullError)
    async def busy(_: Request, error: QueueFullError) -> JSONResponse:
        return _error(429, str(error), "rate_limit_error", headers={"Retry-After": "1"})

    @app.exception_handler(StoppingError)
    async def stopping(_: Request, error: StoppingError) -> JSONResponse:
        return _error(503, str(error), "server_error", headers={"Retry-After": "5"})

    @app.exception_handler(LorryError)
    async def user_error(_: Request, error: LorryError) -> JSONResponse:
        return _error(400, str(error), "invalid_request_error")


def _error(
    status: int, message: str, kind: str, *, param: str | None = None, code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    return JSONResponse(WireError(message=message, type=kind, param=param, code=code).body(), status, headers)
