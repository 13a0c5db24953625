"""An application around an engine whose answers are written in the test, called without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx
from fastapi import FastAPI

from components.artifacts.contracts import GenerationDefaults
from components.model_server.engine.interface import Delta, Request
from components.model_server.engine.metrics import Metrics
from components.model_server.http.api import create_app
from components.model_server.http.api_keys import ApiKeys
from components.model_server.http.served_model import ServedModel
from components.modeling.chat_template import Edges

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 3}
END = Delta("", "stop", 1, 1)
SERVED = ServedModel("m", ("m-Q8_0",), GenerationDefaults(), ("Hi?",), {"n_ctx": 256}, lambda _: False, Edges(), None)


class ScriptedEngine:
    """Answers every request with the same deltas; an exception among them is raised."""

    def __init__(self, *deltas: Delta | Exception, ready: bool = True, alive: bool = True) -> None:
        self.deltas, self.ready, self.alive, self.idle = deltas, ready, alive, True
        self.full: Exception | None = None
        self.requests: list[Request] = []
        self.n_closed = 0
        self.closed = False

    def require_capacity(self, key: str) -> None:
        if self.full is not None:
            raise self.full

    async def stream(self, request: Request) -> AsyncGenerator[Delta]:
        self.requests.append(request)
        try:
            for delta in self.deltas:
                if isinstance(delta, Exception):
                    raise delta
                yield delta
        finally:
            self.n_closed += 1

    def close(self) -> None:
        self.closed = True


def application(engine: ScriptedEngine, keys: dict[str, str] | None = None, **options: Any) -> FastAPI:
    """An application around ``engine``; ``keys`` are API keys by name."""
    metrics = options.pop("metrics", None) or Metrics()
    return create_app(engine, ApiKeys(keys or {}), metrics, SERVED, **options)  # type: ignore[arg-type]


def call(app: Any, method: str = "POST", path: str = "/v1/chat/completions", **request: Any) -> httpx.Response:
    """The response of an application to one request."""
    return calls(app, [(method, path, request)])[0]


def calls(app: Any, requests: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
    """The responses of an application to requests one after the other: method, path and httpx's arguments."""

    async def scenario() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://lorry") as client:
            return [await client.request(method, path, **request) for method, path, request in requests]

    return asyncio.run(scenario())


def message_of(response: httpx.Response) -> str:
    """The message of an error."""
    return str(response.json()["error"]["message"])
