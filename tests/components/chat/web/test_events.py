"""Server-sent events: deltas of snapshots, for the user that owns them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from components.chat.web.events import Snapshot, add_route, events

SNAPSHOTS = st.lists(
    st.fixed_dictionaries({
        "text": st.text("ab", max_size=4), "status": st.sampled_from(["", "a", "ab", "b"]),
        "letters": st.lists(st.text("ab", max_size=2), max_size=2),
    }),
    max_size=5,
)  # fmt: skip


async def generate(snapshots: list[Snapshot]) -> AsyncGenerator[Snapshot]:
    for snapshot in snapshots:
        yield snapshot


def sent(snapshots: list[Snapshot]) -> list[bytes]:
    """The events, without the time until a browser reconnects."""

    async def collect() -> list[bytes]:
        return [event async for event in events(generate(snapshots))]

    first, *rest = asyncio.run(collect())
    assert first == b"retry: 1000\n\n"
    return rest


def test_events_have_only_what_is_new():
    assert sent([
        {"text": "one", "status": "x", "done": False}, {"text": "one two", "status": "x", "done": False},
        {"text": "one two", "status": "y", "done": True},
    ]) == [
        b'data: {"text":"one","status":"x","done":false}\n\n', b'data: {"appended":{"text":" two"}}\n\n',
        b'data: {"status":"y","done":true}\n\n',
    ]  # fmt: skip


def test_a_stream_without_anything_to_follow_says_so():
    gone = b"event: gone\ndata:\n\n"
    assert sent([]) == [gone]
    assert sent([{"text": "half", "done": False}])[-1] == gone
    assert sent([{"text": "all", "done": True}])[-1] != gone


@given(SNAPSHOTS)
def test_a_browser_that_adds_up_the_deltas_has_each_snapshot(snapshots):
    state: Snapshot = {}
    seen = []
    for event in sent(snapshots)[:-1]:
        changed = json.loads(event.removeprefix(b"data: "))
        appended = changed.pop("appended", {})
        state |= {**changed, **{key: state[key] + rest for key, rest in appended.items()}}
        seen.append(dict(state))
    assert seen == snapshots


def test_a_stream_is_of_the_user_of_the_request_and_nobody_else_gets_one():
    asked = []

    def follow(user: str, name: str) -> AsyncGenerator[Snapshot]:
        asked.append((user, name))
        return generate([{"done": True}])

    def user_of(request: Request) -> str | None:
        return request.headers.get("user")

    app = FastAPI()
    add_route(app, "answers", follow, user_of)
    client = TestClient(app)
    response = client.get("/answers/some-id", headers={"user": "ann"})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.text.endswith('data: {"done":true}\n\n')
    assert client.get("/answers/some-id").status_code == 401
    assert asked == [("ann", "some-id")]
