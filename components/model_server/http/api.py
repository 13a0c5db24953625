"""The HTTP face: OpenAI's API and the probes of Kubernetes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar, cast

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Send

from components.model_server.engine import interface as engines
from components.model_server.engine.interface import Delta, Engine
from components.model_server.engine.metrics import Metrics
from components.model_server.http.api_keys import ApiKeys
from components.model_server.http.errors import NoSuchModelError, answer_errors_as_openai_does
from components.model_server.http.middleware import Gatekeeper
from components.model_server.http.protocol import ChatCompletionRequest, CompletionRequest, WireError
from components.model_server.http.responses import ChatAnswer, TextAnswer, WireAnswer
from components.model_server.http.served_model import ServedModel

T = TypeVar("T")

READ = ["GET", "HEAD"]
# nginx buffers a stream unless told not to.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": dict[str, WireError], "description": told}
    for status, told in {
        400: "the request cannot be answered as it is",
        401: "no valid API key",
        404: "no such model",
        413: "the body is too long",
        415: "the body is no plain JSON",
        429: "as many requests wait as may",
        503: "the server is stopping, or not ready yet",
    }.items()
}


def create_app(
    engine: Engine, keys: ApiKeys, metrics: Metrics, served: ServedModel, *, cors_origins: Sequence[str] = ()
) -> FastAPI:
    """The application around an engine, which has loaded ``served``; it closes the engine when it ends.

    Pages of ``cors_origins`` may ask from a browser; ``*`` is all of them.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.close)

    app = FastAPI(title="Lorry model server", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Gatekeeper, engine=engine, keys=keys, metrics=metrics)
    if cors_origins:
        # Around the gatekeeper: a browser asks whether it may ask without a key.
        app.add_middleware(
            CORSMiddleware, allow_origins=cors_origins, allow_methods=[*READ, "POST"], allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After"], allow_private_network=True,
        )  # fmt: skip
    answer_errors_as_openai_does(app, metrics)
    started = int(time.time())

    @app.api_route("/livez", methods=READ)
    async def livez() -> Response:
        """The process answers, and the thread that computes is alive."""
        return JSONResponse({"status": "ok" if engine.alive else "the engine has died"}, 200 if engine.alive else 503)

    @app.api_route("/readyz", methods=READ)
    @app.api_route("/health", methods=READ, include_in_schema=False)
    @app.api_route("/v1/health", methods=READ, include_in_schema=False)
    async def readyz() -> Response:
        """The model is loaded, has computed tokens, and takes requests."""
        return JSONResponse({"status": "ok" if engine.ready else "not ready"}, 200 if engine.ready else 503)

    @app.api_route("/metrics", methods=READ)
    async def prometheus() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.api_route("/v1/models", methods=READ, responses={401: REFUSED[401]})
    async def models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [_model(served, started)]}

    @app.api_route(
        "/v1/models/{model_id:path}", methods=READ, responses={status: REFUSED[status] for status in (401, 404)}
    )
    async def model(model_id: str) -> dict[str, Any]:
        """The served model, by its name."""
        _require_model(served, model_id)
        return _model(served, started)

    @app.post("/v1/chat/completions", response_model=None, responses=REFUSED)
    async def chat_completions(body: ChatCompletionRequest, request: Request) -> Response:
        """One answer to a conversation, whole or streamed."""
        return await _answer(engine, served, body, request)

    @app.post("/v1/completions", response_model=None, responses=REFUSED)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """One continuation of a text, whole or streamed."""
        return await _answer(engine, served, body, request)

    return app


async def _answer(
    engine: Engine, served: ServedModel, body: ChatCompletionRequest | CompletionRequest, request: Request
) -> Response:
    _require_model(served, body.model)
    if not engine.ready:
        raise engines.UnavailableError("the model is not ready, or the server is stopping; try again in a moment")
    asked = body.to_engine(request.state.key, served)
    told: dict[str, Any] = request.state.told

    def ended(last: Delta) -> None:
        told.update(
            prompt_tokens=last.prompt_tokens,
            cached_tokens=last.cached_tokens,
            completion_tokens=last.completion_tokens,
            finish_reason=last.finish_reason,
            first_delta_seconds=answer.first_delta_seconds,
        )

    answer = _form_of(asked, served, ended)
    deltas = engine.stream(asked)
    # The first delta is awaited here, so that what is wrong with a request is a status and not a broken stream. It
    # comes soon, though it may say no more than that the request waits.
    deltas = _chain(await _unless_gone(request, anext(deltas)), deltas)
    if body.stream:
        events = answer.events(deltas, include_usage=body.wants_usage)
        return _Stream(events, media_type="text/event-stream", headers=STREAM_HEADERS)
    return JSONResponse(await _unless_gone(request, answer.whole(deltas)))


def _form_of(asked: engines.Request, served: ServedModel, ended: Callable[[Delta], None]) -> WireAnswer:
    """The answer to a conversation, or to a text."""
    if asked.is_text:
        return TextAnswer(served.name, ended)
    return ChatAnswer(served.name, ended, opened=asked.opens_reasoning, edges=served.answer_edges, tools=asked.tools)


async def _chain(first: Delta, rest: AsyncGenerator[Delta]) -> AsyncGenerator[Delta]:
    try:
        yield first
        async for delta in rest:
            yield delta
    finally:
        await rest.aclose()


class _Stream(StreamingResponse):
    """Closes its events when the client goes away while one is sent: the place must not wait for the collector."""

    async def stream_response(self, send: Send) -> None:
        """Send the events."""
        async with aclosing(cast(AsyncGenerator[str], self.body_iterator)):
            await super().stream_response(send)


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away.

    Raises:
        HTTPException: 499; nobody is there to read it, but the log is.
    """
    task, gone = asyncio.ensure_future(work), asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(499, "the client went away")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})


async def _disconnect(request: Request) -> None:
    """Returns when the client has gone; the body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _model(served: ServedModel, started: int) -> dict[str, Any]:
    # OpenAI's four fields; meta is llama-server's.
    return {
        "id": served.name, "object": "model", "created": started, "owned_by": "lorry", "meta": served.meta(),
    }  # fmt: skip


def _require_model(served: ServedModel, model_id: str) -> None:
    if not served.answers_to(model_id):
        raise NoSuchModelError(f"no model {model_id!r} here; this server serves {served.name!r}")
