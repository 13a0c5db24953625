"""An OpenAI-compatible server whose answers and delays a test chooses."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from components.runtime.sockets import listen
from tests.conftest import answers, free_port


@dataclass
class Stub:
    """Echoes the last message, unless ``answers`` has an answer to it. Bodies of requests are in ``asked``.

    Some questions have an effect: ``count`` is answered without end, ``break`` breaks off after two words (once),
    ``busy`` is refused once, those in ``refuses`` always; those in ``streams`` are answered with exactly those lines.
    It sleeps ``first_seconds`` before the first delta and ``delta_seconds`` before each further one. Its list of models
    has ``meta``, unless that is None. More than ``context`` characters of messages do not fit.
    """

    model: str = "stub"
    first_seconds: float = 0.0
    delta_seconds: float = 0.0
    answers: dict[str, str] = field(default_factory=dict)
    streams: dict[str, str] = field(default_factory=dict)
    refusal: tuple[int, dict[str, str]] = (400, {"message": "the prompt has 9 tokens too many"})
    context: int = 1_000_000
    asked: list[dict[str, Any]] = field(default_factory=list)
    refuses: set[str] = field(default_factory=lambda: {"refuse"})
    meta: object = None
    gone: threading.Event = field(default_factory=threading.Event)
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.address = f"http://127.0.0.1:{self.port}"
        self._once: set[str] = set()

    def __enter__(self) -> Stub:
        self._server = uvicorn.Server(uvicorn.Config(self._app(), log_level="error", timeout_graceful_shutdown=1))
        self._bound = listen("127.0.0.1", self.port, "port")
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._bound]}, daemon=True)
        self._thread.start()
        while not answers(f"{self.address}/v1/models"):
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._bound.close()

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, object]:
            model = {"id": self.model, "object": "model", "created": 0, "owned_by": "test"}
            return {"object": "list", "data": [model if self.meta is None else {**model, "meta": self.meta}]}

        @app.post("/v1/chat/completions")
        async def completions(request: Request) -> Response:
            body = await request.json()
            self.asked.append(body)
            question = body["messages"][-1]["content"]
            if body["model"] != self.model:
                refusal = {"message": f"no model {body['model']!r} here", "code": "model_not_found"}
                return JSONResponse({"error": refusal}, 404)
            if sum(len(message["content"]) for message in body["messages"]) > self.context:
                refusal = {"message": "the prompt is longer than that", "code": "context_length_exceeded"}
                return JSONResponse({"error": refusal}, 400)
            if question in self.streams:
                return Response(self.streams[question].encode(), media_type="text/event-stream")
            if question in self.refuses:
                return JSONResponse({"error": self.refusal[1]}, self.refusal[0])
            if question == "busy" and self._is_first("busy"):
                return JSONResponse({"error": {"message": "64 wait"}}, 429, {"Retry-After": "3"})
            return StreamingResponse(self._events(question), media_type="text/event-stream")

        return app

    def _is_first(self, question: str) -> bool:
        is_first = question not in self._once
        self._once.add(question)
        return is_first

    async def _events(self, question: str) -> AsyncIterator[str]:
        n_deltas = 0
        try:
            await asyncio.sleep(self.first_seconds)
            async for delta in self._deltas(question):
                yield _event({"content": delta})
                n_deltas += 1
            yield _event({}, finish_reason="stop")
            yield f"data: {json.dumps({**HEAD, 'choices': [], 'usage': _usage(n_deltas)})}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            self.gone.set()

    async def _deltas(self, question: str) -> AsyncIterator[str]:
        if question == "count":
            for number in range(100_000):
                yield f"{number} "
                await asyncio.sleep(0.05)
        words = self.answers.get(question, f"{self.model} heard: {question}").split(" ")
        for number, word in enumerate(words):
            if number:
                await asyncio.sleep(self.delta_seconds)
            if question == "break" and number == 2 and self._is_first("break"):
                raise ConnectionError("the stub breaks off")
            yield word if number == len(words) - 1 else f"{word} "


HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "stub"}


def _event(delta: dict[str, str], finish_reason: str | None = None) -> str:
    return (
        f"data: {json.dumps({**HEAD, 'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish_reason}]})}\n\n"
    )


def _usage(n_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": n_tokens, "total_tokens": n_tokens + 1}
