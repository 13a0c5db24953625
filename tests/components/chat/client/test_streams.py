"""Streams in the variants that servers send, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import chain, repeat

import aiohttp
import pytest

from components.chat.client.errors import ContextFullError, ServerError
from components.chat.client.streams import read_completion
from components.chat.storage.completion import BROKEN, Completion

TWO = [{"delta": {"content": "one "}}, {"delta": {"content": "two"}}]
STOP = {"delta": {}, "finish_reason": "stop"}


def events(*chunks: object) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def of(*choices: object) -> str:
    return events(*({"choices": [choice]} for choice in choices))


def states(stream: str, error: Exception | None = None, seconds: Sequence[float] = ()) -> list[Completion]:
    """The completion after each event of a stream, which then fails with ``error``; the clock says ``seconds``."""
    clock = chain(seconds, repeat(99.0))

    async def lines():
        for line in stream.encode().splitlines(keepends=True):
            yield line
        if error is not None:
            raise error

    async def read_all() -> list[Completion]:
        return [completion async for completion in read_completion(lines(), 0.0, clock.__next__)]

    return asyncio.run(read_all())


def read(stream: str) -> Completion:
    """The last state of a completion."""
    return states(stream)[-1]


def unfinished(*choices: object) -> str:
    """The beginning of a stream."""
    return of(*choices).replace("data: [DONE]\n\n", "")


@pytest.mark.parametrize(
    "stream",
    [
        of(TWO[0], {"delta": None}, TWO[1], STOP),
        of(TWO[0], {}, TWO[1], STOP),
        of(TWO[0], {"delta": {"content": None}}, TWO[1], STOP),
        of(TWO[0], {"delta": {"role": "assistant", "content": ""}}, TWO[1], {"delta": None, "finish_reason": "stop"}),
        events({"choices": [TWO[0]]}, {}, {"choices": None}, {"choices": []}, {"choices": [TWO[1], STOP]}),
        events({"choices": [TWO[0]], "usage": None}, {"choices": [TWO[1], STOP]}, {"usage": {"total_tokens": 5}}),
        of({"delta": {"content": [{"type": "text", "text": "one "}]}}, TWO[1], STOP),
        of(*TWO, STOP).replace("\n", "\r\n"),
        of(*TWO, STOP).replace("data: ", "data:"),
        ": ping\n\n:\n\nevent: message\nid: 7\nretry: 10\n" + of(*TWO, STOP),
        of(*TWO),
        of(*TWO, STOP).replace("data: [DONE]\n\n", ""),
        json.dumps({"choices": [{"message": {"content": "one two"}, "finish_reason": "stop"}]}),
    ],
)
def test_a_stream_of_another_form_is_read_to_its_end(stream):
    completion = read(stream)
    assert (completion.text, completion.finish_reason) == ("one two", "stop")
    assert completion.n_tokens in (1, 2)


@pytest.mark.parametrize(
    "error",
    [
        events({"error": "upstream died"}),
        events({"error": {"message": "upstream died", "code": 502}, "choices": [{"finish_reason": "error"}]}),
        events({"object": "error", "message": "upstream died"}),
        'event: error\ndata: {"message": "upstream died"}\n\n',
    ],
)
def test_an_error_within_a_stream_is_shown_and_the_text_before_it_stays(error):
    completion = read(unfinished(*TWO) + error)
    assert (completion.text, completion.finish_reason) == ("one two", BROKEN)
    assert completion.status_line().endswith("broke off: upstream died")
    assert completion.can_continue
    with pytest.raises(ServerError, match="The model server failed: upstream died"):
        read(error)


def test_an_error_that_names_the_context_is_a_full_context():
    with pytest.raises(ContextFullError, match="maximum context length") as raised:
        read(events({"error": {"message": "maximum context length is 300 tokens; lower max_tokens"}}))
    assert raised.value.names_max_tokens


@pytest.mark.parametrize(
    "error", [aiohttp.ClientPayloadError("cut"), TimeoutError(), ValueError("Chunk too big"), TypeError("other form")]
)
def test_a_stream_that_fails_keeps_its_text_and_is_an_error_without_any(error):
    completion = states(unfinished(TWO[0]), error)[-1]
    assert (completion.text, completion.finish_reason, completion.error) == ("one ", BROKEN, "")
    with pytest.raises((aiohttp.ClientError, TimeoutError, ValueError)):
        states("", error)


def test_a_stream_that_just_ends_is_broken():
    assert read(unfinished(*TWO)).finish_reason == BROKEN
    assert states("")[-1] == Completion(finish_reason=BROKEN)


@pytest.mark.parametrize("line", ['{"error": "overloaded"}', '{"choices": 5}', "5", "{"])
def test_a_stream_in_another_form_is_an_error(line):
    with pytest.raises((ServerError, ValueError), match=r"overloaded|not in OpenAI's form|unexpected end"):
        read(f"data: {line}\n")


def test_seconds_count_from_the_request_and_stop_at_the_finish_reason():
    usage = {"choices": [], "usage": {"completion_tokens": 7}}
    stream = events({"choices": [TWO[0]]}, {"choices": [TWO[1]]}, {"choices": [STOP]}, usage)
    completion = states(stream, seconds=[0.5, 1.0, 1.5, 8.0])[-1]
    assert (completion.first_token_seconds, completion.seconds) == (0.5, 1.5)
    assert completion.n_tokens == 7, "the server's count replaces the number of deltas"


def test_an_answer_grows_by_each_delta_and_counts_them_until_the_server_does():
    grown = states(of(*TWO, STOP))
    assert [completion.text for completion in grown] == ["one ", "one two", "one two", "one two"]
    assert [completion.n_tokens for completion in grown] == [1, 2, 2, 2]
    assert [completion.finish_reason for completion in grown] == [None, None, "stop", "stop"]


def test_a_content_filter_is_named():
    filtered = {"delta": {}, "finish_reason": "content_filter"}
    assert read(of(TWO[0], filtered)).status_line().endswith("ended by the server's content filter")
    assert read(of(filtered)).status_line() == "The server's content filter let no answer through."


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_separate_from_the_answer(name):
    reasoning = [{"delta": {name: "let me "}}, {"delta": {name: "think", "content": None}}]
    thinking = read(unfinished(*reasoning))
    assert (thinking.reasoning, thinking.text) == ("let me think", "")
    answered = read(of(*reasoning, *TWO, STOP))
    assert (answered.reasoning, answered.text) == ("let me think", "one two")
    only = read(of(*reasoning, {"delta": {}, "finish_reason": "length"}))
    assert only.status_line().startswith("The model only thought, and gave no answer · 2 tokens")
