"""Running answers as server-sent events; a window that lost its connection requests the stream again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

# All that a window shows of an answer at one moment, as JSON; ``done`` is true in the last one.
Snapshot = dict[str, Any]
# The snapshots of an answer, by user and id.
Follow = Callable[[str, str], AsyncGenerator[Snapshot]]
HEADERS = {"Cache-Control": "no-cache"}
GONE = b"event: gone\ndata:\n\n"


def add_route(app: FastAPI, kind: str, follow: Follow, user_of: Callable[[Request], str | None]) -> None:
    """Serve ``/{kind}/{id}`` to the user that owns the id."""

    async def stream(name: str, request: Request) -> StreamingResponse:
        user = user_of(request)
        if user is None:
            raise HTTPException(401, "the page does not know you any more; load it again")
        return StreamingResponse(events(follow(user, name)), media_type="text/event-stream", headers=HEADERS)

    app.add_api_route(f"/{kind}/{{name}}", stream)


async def events(snapshots: AsyncGenerator[Snapshot]) -> AsyncIterator[bytes]:
    """Each snapshot as its delta to the one before; the event ``gone`` if no answer with that id runs any more."""
    yield b"retry: 1000\n\n"
    sent: Snapshot = {}
    async with aclosing(snapshots):
        async for snapshot in snapshots:
            yield b"data: " + orjson.dumps(_delta(snapshot, sent)) + b"\n\n"
            if snapshot.get("done"):
                return
            sent = snapshot
    yield GONE


def _delta(snapshot: Snapshot, sent: Snapshot) -> Snapshot:
    """The values that changed. Of a text that has grown only the rest, in ``appended``."""
    changed = {key: value for key, value in snapshot.items() if key not in sent or sent[key] != value}
    appended = {
        key: value[len(before) :]
        for key, value in changed.items()
        if isinstance(value, str) and (before := sent.get(key)) and value.startswith(before)
    }
    if not appended:
        return changed
    return {**{key: value for key, value in changed.items() if key not in appended}, "appended": appended}
