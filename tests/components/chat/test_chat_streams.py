"""Streams as other people's servers send them, and what the page says of their ends."""

from __future__ import annotations

import asyncio
import json

import pytest

from components.chat.client.completions import (
    BROKEN,
    Answer,
    ContextFull,
    NotServed,
    ServerError,
    Settings,
    _read,
    stream_answer,
)
from components.chat.client.servers import Server
from tests.openai_stub import Stub

TWO = [{"delta": {"content": "one "}}, {"delta": {"content": "two"}}]
STOP = {"delta": {}, "finish_reason": "stop"}


def events(*chunks: object) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def of(*choices: object) -> str:
    return events(*({"choices": [choice]} for choice in choices))


def read(stream: str) -> Answer:
    """The last state of an answer with that stream."""

    async def lines():
        for line in stream.encode().splitlines(keepends=True):
            yield line

    async def last() -> Answer:
        return [answer async for answer in _read(lines(), 0.0)][-1]

    return asyncio.run(last())


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
    answer = read(stream)
    assert (answer.text, answer.finish_reason) == ("one two", "stop")
    assert answer.n_tokens in (1, 2)


@pytest.mark.parametrize(
    "error",
    [
        events({"error": "upstream died"}),
        events({"error": {"message": "upstream died", "code": 502}, "choices": [{"finish_reason": "error"}]}),
        events({"object": "error", "message": "upstream died"}),
        'event: error\ndata: {"message": "upstream died"}\n\n',
    ],
)
def test_an_error_within_a_stream_is_told_and_what_came_stays(error):
    answer = read(of(*TWO).replace("data: [DONE]\n\n", "") + error)
    assert (answer.text, answer.finish_reason) == ("one two", BROKEN)
    assert answer.in_words().endswith("broke off: upstream died")
    assert answer.can_go_on
    with pytest.raises(ServerError, match="The model server failed: upstream died"):
        read(error)


def test_a_content_filter_is_named():
    assert (
        read(of(TWO[0], {"delta": {}, "finish_reason": "content_filter"}))
        .in_words()
        .endswith("ended by the server's content filter")
    )
    nothing = read(of({"delta": {}, "finish_reason": "content_filter"}))
    assert nothing.in_words() == "The server's content filter let no answer through."


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_are_apart_from_the_answer(name):
    thoughts = [{"delta": {name: "let me "}}, {"delta": {name: "think", "content": None}}]
    thinking = read(of(*thoughts).replace("data: [DONE]\n\n", ""))
    assert (thinking.thoughts, thinking.text) == ("let me think", "")
    answered = read(of(*thoughts, *TWO, STOP))
    assert (answered.thoughts, answered.text) == ("let me think", "one two")
    only = read(of(*thoughts, {"delta": {}, "finish_reason": "length"}))
    assert only.in_words().startswith("The model only thought, and gave no answer · 2 tokens")
    assert Answer(thoughts="let", n_tokens=1, first_token_seconds=0.1).in_words().startswith("Thinking… · 1 token ·")


FULL = [
    (400, {"message": "the prompt has 9 tokens and the context holds 4", "code": "context_length_exceeded"}),
    (400, {"message": "This model's maximum context length is 2048 tokens. However, you requested 2300 tokens"}),
    (400, {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"}),
    (422, {"message": "`inputs` tokens + `max_new_tokens` must be <= 2048"}),
    (500, {"message": "input is too long"}),
]


@pytest.mark.parametrize(("status", "error"), FULL)
def test_a_full_context_is_known_in_the_words_of_many_servers(status, error, refused):
    with pytest.raises(ContextFull, match="The model server refuses"):
        asyncio.run(refused(status, error))


@pytest.mark.parametrize(("status", "kind"), [(404, NotServed), (400, NotServed), (500, ServerError)])
def test_another_refusal_is_no_full_context(status, kind, refused):
    with pytest.raises(kind) as raised:
        asyncio.run(refused(status, {"message": "the prompt has 9 tokens too many"}))
    assert not isinstance(raised.value, ContextFull)


@pytest.fixture
def refused():
    """Asks a server that refuses with a status and an error."""
    with Stub() as stub:

        async def ask(status: int, error: dict[str, str]) -> None:
            stub.refusal = (status, error)
            server = Server(f"{stub.address}/v1", "none")
            try:
                async for _ in stream_answer(server, "stub", [{"role": "user", "content": "refuse"}], Settings()):
                    pass
            finally:
                await server.close()

        yield ask
