"""Responses whole and streamed: heads, usage, heartbeats, errors within a stream, ends of line."""

from __future__ import annotations

import asyncio

import pytest

from components.errors import LorryError
from components.model_server.engine.interface import HEARTBEAT_SECONDS, Delta
from components.model_server.http.responses.builder import HEARTBEAT, usage_of
from components.model_server.http.responses.chat_completion import ChatCompletionBuilder
from components.model_server.http.responses.completion import CompletionBuilder
from tests.components.model_server.http.responses.building import DONE, body_of, chunks_of, events_of, stream

BUILDERS = [ChatCompletionBuilder, CompletionBuilder]
END = Delta("", "stop", prompt_tokens=7, completion_tokens=2, cached_tokens=5)
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 2,
    "total_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 5},
}


class Clock:
    """Advances by ``step`` seconds each time that it is read."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_usage_counts_the_cached_tokens_within_those_of_the_prompt():
    assert usage_of(END) == USAGE


@pytest.mark.parametrize("make", BUILDERS)
def test_whole_and_streamed_responses_have_the_same_text_head_and_end(make):
    deltas = [Delta("Par"), Delta(""), Delta("is."), END]
    whole = body_of(make("m", lambda _: None), deltas)
    chunks = chunks_of(events_of(make("m", lambda _: None), deltas))
    assert {(chunk["model"], chunk["object"]) for chunk in chunks} == {("m", make.chunk_object_name)}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert whole["id"].startswith(f"{make.id_prefix}-")
    assert (whole["object"], whole["model"], whole["usage"]) == (make.object_name, "m", USAGE)
    choices = [chunk["choices"][0] for chunk in chunks]
    text = "".join(choice.get("text", choice.get("delta", {}).get("content")) or "" for choice in choices)
    whole_choice = whole["choices"][0]
    assert text == (whole_choice.get("text") or whole_choice["message"]["content"]) == "Paris."
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert whole_choice["finish_reason"] == "stop"


@pytest.mark.parametrize("make", BUILDERS)
def test_two_responses_have_different_ids(make):
    one, other = (body_of(make("m", lambda _: None), [END]) for _ in range(2))
    assert one["id"] != other["id"]


@pytest.mark.parametrize("make", BUILDERS)
def test_usage_comes_in_a_last_chunk_without_choices_if_wanted(make):
    events = events_of(make("m", lambda _: None), [Delta("Hi"), END], include_usage=True)
    assert events[-1] == DONE
    assert (chunks_of(events)[-1]["choices"], chunks_of(events)[-1]["usage"]) == ([], USAGE)
    without = chunks_of(events_of(make("m", lambda _: None), [Delta("Hi"), END]))
    assert not any("usage" in chunk for chunk in without)


@pytest.mark.parametrize("make", BUILDERS)
def test_the_last_delta_is_passed_on_once_whole_or_streamed(make):
    seen: list[Delta] = []
    body_of(make("m", seen.append), [Delta("Hi"), END])
    events_of(make("m", seen.append), [Delta("Hi"), END])
    assert seen == [END, END]


def test_ttft_is_the_time_until_the_first_text_and_empty_deltas_are_not_text():
    builder = CompletionBuilder("m", lambda _: None, clock=Clock(1.0))
    body_of(builder, [Delta(""), Delta(""), Delta("Hi"), Delta("!"), END])
    assert builder.ttft_seconds == 1.0
    empty = CompletionBuilder("m", lambda _: None, clock=Clock(0.5))
    assert empty.ttft_seconds is None
    body_of(empty, [Delta(""), END])
    assert empty.ttft_seconds == 0.5


@pytest.mark.parametrize("make", BUILDERS)
def test_an_empty_delta_becomes_a_heartbeat(make):
    events = events_of(make("m", lambda _: None), [Delta(""), Delta(""), Delta("Hi"), Delta(""), END])
    assert events[:2] == [HEARTBEAT] * 2
    assert events.count(HEARTBEAT) == 3
    assert HEARTBEAT.startswith(":")
    assert HEARTBEAT.endswith("\n\n")


@pytest.mark.parametrize(("step", "n_heartbeats"), [(HEARTBEAT_SECONDS, 4), (HEARTBEAT_SECONDS / 100, 0)])
def test_text_that_is_held_back_for_long_becomes_heartbeats(step, n_heartbeats):
    builder = ChatCompletionBuilder("m", lambda _: None, clock=Clock(step * 1.01))
    events = events_of(builder, [*[Delta(" ")] * 4, END])
    assert events.count(HEARTBEAT) == n_heartbeats


@pytest.mark.parametrize("make", BUILDERS)
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LorryError("it broke; ask again"), "it broke; ask again"),
        (KeyError("secret"), "the server failed (KeyError); its log says more"),
    ],
    ids=repr,
)
def test_an_error_within_a_stream_is_its_last_event_before_done(make, error, message, caplog):
    seen: list[Delta] = []
    events = events_of(make("m", seen.append), [Delta("Hi"), error, END])
    assert chunks_of(events)[-1]["error"] == {"message": message, "type": "server_error", "param": None, "code": None}
    assert events[-1] == DONE
    assert seen == []
    # An unexpected error is in the log, with its traceback; a user's is not.
    assert [bool(record.exc_info) for record in caplog.records] == ([] if isinstance(error, LorryError) else [True])


@pytest.mark.parametrize("make", BUILDERS)
def test_no_event_has_an_end_of_line_within_its_text(make):
    text = "a\u2028b\u2029c\u0085d\n\x0be"
    events = events_of(make("m", lambda _: None), [Delta(text), END], include_usage=True)
    lines = [line for event in events for line in event.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    choices = [choice for chunk in chunks_of(events) for choice in chunk["choices"]]
    assert "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices) == text


def test_closing_the_events_closes_the_engines_stream():
    async def scenario() -> bool:
        deltas = stream([Delta("Hi"), Delta("there"), END])
        events = CompletionBuilder("m", lambda _: None).events(deltas, include_usage=False)
        await anext(events)
        await events.aclose()  # type: ignore[attr-defined]
        return deltas.ag_frame is None

    assert asyncio.run(scenario())
