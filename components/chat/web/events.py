"""What has come of an answer, as server-sent events: a window that lost its connection asks again, and follows on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

# ``done`` is in the last one.
Piece = dict[str, Any]
Follow = Callable[[str, str], AsyncGenerator[Piece]]
HEADERS = {"Cache-Control": "no-cache"}
GONE = b"event: gone\ndata:\n\n"


def add_route(app: FastAPI, kind: str, follow: Follow, user_of: Callable[[Request], str | None]) -> None:
    """Serve ``/{kind}/{id}`` to the user to whom it belongs."""

    async def events(which: str, request: Request) -> StreamingResponse:
        user = user_of(request)
        if user is None:
            raise HTTPException(401, "the page does not know you any more; load it again")
        return StreamingResponse(_events(follow(user, which)), media_type="text/event-stream", headers=HEADERS)

    app.add_api_route(f"/{kind}/{{which}}", events)


async def _events(pieces: AsyncGenerator[Piece]) -> AsyncIterator[bytes]:
    """Each piece without what the window has of it already; ``gone`` where there is nothing to follow any more."""
    yield b"retry: 1000\n\n"
    sent: Piece = {}
    async with aclosing(pieces):
        async for piece in pieces:
            yield b"data: " + orjson.dumps(_news(piece, sent)) + b"\n\n"
            if piece.get("done"):
                return
            sent = piece
    yield GONE


def _news(piece: Piece, sent: Piece) -> Piece:
    """What is new in a piece. Of a text that has grown only the rest, in ``more``."""
    news = {key: value for key, value in piece.items() if key not in sent or sent[key] != value}
    grown = {
        key: value[len(was) :]
        for key, value in news.items()
        if isinstance(value, str) and (was := sent.get(key)) and value.startswith(was)
    }
    return {**{key: value for key, value in news.items() if key not in grown}, "more": grown} if grown else news
