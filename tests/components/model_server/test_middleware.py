"""What the gatekeeper refuses before a route sees it."""

from __future__ import annotations

import asyncio

import httpx
from starlette.responses import PlainTextResponse

from components.model_server.engine.interface import QueueFullError
from components.model_server.engine.metrics import Metrics
from components.model_server.http.api_keys import ApiKeys
from components.model_server.http.middleware import Gatekeeper


class FullEngine:
    """Has no room for anybody."""

    def require_capacity(self, key: str) -> None:
        raise QueueFullError("64 requests are waiting already; try again later", 7)


def test_a_crowd_is_refused_before_its_bodies_are_read_and_told_when_to_come_again():
    reached: list[str] = []

    async def route(scope, receive, send):
        reached.append(scope["path"])
        await PlainTextResponse("here")(scope, receive, send)

    async def ask() -> tuple[httpx.Response, ...]:
        app = Gatekeeper(route, FullEngine(), ApiKeys({}), Metrics())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lorry") as client:
            paths = ("/v1/chat/completions", "/v1/completions")
            return *[await client.post(path, json={}) for path in paths], await client.get("/v1/models")

    *refused, models = asyncio.run(ask())
    for response in refused:
        assert response.status_code == 429
        assert response.headers["Retry-After"] == "7"
        assert response.json()["error"]["code"] == "queue_full"
        assert response.json()["error"]["message"] == "64 requests are waiting already; try again later"
    assert models.status_code == 200
    assert reached == ["/v1/models"]
