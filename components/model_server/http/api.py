"""The HTTP application: OpenAI's API and the probes of Kubernetes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware

from components.model_server.engine.interface import Engine
from components.model_server.engine.metrics import Metrics
from components.model_server.http.api_keys import ApiKeys
from components.model_server.http.completions import complete, require_model
from components.model_server.http.errors import add_error_handlers
from components.model_server.http.middleware import RequestMiddleware
from components.model_server.http.protocol.chat_completion import ChatCompletionRequest
from components.model_server.http.protocol.completion import CompletionRequest
from components.model_server.http.protocol.error import ErrorInfo
from components.model_server.http.served_model import ServedModel

Route = TypeVar("Route", bound=Callable[..., Any])

# The errors of a completion, for the API's schema.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": dict[str, ErrorInfo], "description": description}
    for status, description in {
        400: "the request cannot be answered as it is",
        401: "no valid API key",
        404: "no such model",
        413: "the body is too long",
        415: "the body is no plain JSON",
        429: "the queue is full",
        503: "the server is stopping, or not ready yet",
    }.items()
}


def create_app(
    engine: Engine, keys: ApiKeys, metrics: Metrics, served: ServedModel, *, cors_origins: Sequence[str] = ()
) -> FastAPI:
    """The application around an engine that has loaded ``served``; it closes the engine when it ends.

    Browsers may call it from pages of ``cors_origins``; ``*`` is all of them.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.close)

    app = FastAPI(title="Lorry model server", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(RequestMiddleware, engine=engine, keys=keys, metrics=metrics)
    if cors_origins:
        # Outside the other middleware: a browser's preflight request carries no key.
        app.add_middleware(
            CORSMiddleware, allow_origins=cors_origins, allow_methods=["GET", "HEAD", "POST"], allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After"], allow_private_network=True,
        )  # fmt: skip
    add_error_handlers(app, metrics)
    _add_completions(app, engine, served)
    _add_models(app, served)
    _add_probes(app, engine, metrics)
    return app


def _add_completions(app: FastAPI, engine: Engine, served: ServedModel) -> None:
    @app.post("/v1/chat/completions", response_model=None, responses=ERRORS)
    async def chat_completions(body: ChatCompletionRequest, request: Request) -> Response:
        """One answer to a conversation, whole or streamed."""
        return await complete(engine, served, body, request)

    @app.post("/v1/completions", response_model=None, responses=ERRORS)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """One continuation of a text, whole or streamed."""
        return await complete(engine, served, body, request)


def _add_models(app: FastAPI, served: ServedModel) -> None:
    # OpenAI's four fields; meta is llama-server's.
    served_model = {
        "id": served.name, "object": "model", "created": int(time.time()), "owned_by": "lorry", "meta": served.meta(),
    }  # fmt: skip

    @_readable(app, "/v1/models", responses={401: ERRORS[401]})
    async def models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [served_model]}

    @_readable(app, "/v1/models/{model_id:path}", responses={status: ERRORS[status] for status in (401, 404)})
    async def model(model_id: str) -> dict[str, Any]:
        """The served model, by its name."""
        require_model(served, model_id)
        return served_model


def _add_probes(app: FastAPI, engine: Engine, metrics: Metrics) -> None:
    @_readable(app, "/livez")
    async def livez() -> Response:
        """The process answers, and the thread that computes is alive."""
        return JSONResponse({"status": "ok" if engine.alive else "the engine has died"}, 200 if engine.alive else 503)

    @_readable(app, "/readyz")
    @_readable(app, "/health", include_in_schema=False)
    @_readable(app, "/v1/health", include_in_schema=False)
    async def readyz() -> Response:
        """The model is loaded, has computed tokens, and accepts requests."""
        return JSONResponse({"status": "ok" if engine.ready else "not ready"}, 200 if engine.ready else 503)

    @_readable(app, "/metrics")
    async def prometheus() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _readable(app: FastAPI, path: str, **options: Any) -> Callable[[Route], Route]:
    """Decorate what answers GET and HEAD; HEAD is not in the schema, where it would be the same operation again."""

    def decorate(route: Route) -> Route:
        app.get(path, **options)(route)
        app.head(path, include_in_schema=False)(route)
        return route

    return decorate
