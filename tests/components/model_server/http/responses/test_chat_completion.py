"""Chat completions: reasoning, tool calls and log probabilities in a message, whole and in chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.model_server.engine.interface import Delta, Logprob, TokenLogprob
from components.model_server.http.responses.chat_completion import ChatCompletionBuilder
from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import ID_LENGTH, CallFormat
from components.model_server.tool_calls.tool_use import ToolUse
from components.modeling.chat_template import Edges
from tests.components.model_server.http.responses.building import body_of, chunks_of, events_of

STOP, LENGTH = Delta("", "stop", 1, 1), Delta("", "length", 1, 1)
FORMAT = CallFormat("<call>", ":", JsonArguments(), "</call><call>", "</call>", {})
TOOLS = ToolUse(
    [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("add", "paint")],
    ["add", "paint"],
    FORMAT,
)


def builder(**options: Any) -> ChatCompletionBuilder:
    return ChatCompletionBuilder("m", lambda _: None, **options)


def message_of(deltas: list[Delta], **options: Any) -> dict[str, Any]:
    return body_of(builder(**options), deltas)["choices"][0]["message"]


def choices_of(deltas: list[Delta], **options: Any) -> list[dict[str, Any]]:
    return [chunk["choices"][0] for chunk in chunks_of(events_of(builder(**options), deltas))]


def test_an_answer_begins_with_the_role_and_ends_with_an_empty_delta():
    choices = choices_of([Delta("Hi"), STOP])
    assert [choice["delta"] for choice in choices] == [{"role": "assistant", "content": ""}, {"content": "Hi"}, {}]
    assert [choice["delta"] for choice in choices_of([STOP])] == [{"role": "assistant", "content": ""}, {}]


def test_an_empty_answer_has_an_empty_content():
    assert message_of([STOP]) == {"role": "assistant", "content": "", "refusal": None}


@pytest.mark.parametrize("opened", [True, False])
def test_reasoning_has_a_field_of_its_own_whole_and_streamed(opened):
    texts = ["" if opened else "<thi", "" if opened else "nk>", "\nHm", ".\n</th", "ink>\n", "\nPar", "is."]
    deltas = [*map(Delta, texts), STOP]
    assert message_of(deltas, opened=opened) == {
        "role": "assistant",
        "content": "Paris.",
        "reasoning_content": "Hm.",
        "refusal": None,
    }
    choices = choices_of(deltas, opened=opened)
    assert "".join(choice["delta"].get("reasoning_content", "") for choice in choices) == "Hm."
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Paris."


def test_white_space_that_the_template_writes_around_an_answer_is_left_out():
    assert message_of([Delta("\n"), Delta("Hi"), Delta(" "), STOP], edges=Edges("\n", " "))["content"] == "Hi"


def test_a_call_is_a_field_of_the_message_and_the_reason_for_its_end():
    choice = body_of(builder(tools=TOOLS), [Delta('<call>add:{"a": 1}</call>'), STOP])["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert call["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert (call["type"], len(call["id"])) == ("function", ID_LENGTH)


def test_streamed_calls_have_indices_and_their_arguments_joined_are_the_whole_ones():
    text = 'Both: <call>add:{"a": 1}</call><call>paint:{}</call>'
    choices = choices_of([*(Delta(text[i : i + 5]) for i in range(0, len(text), 5)), STOP], tools=TOOLS)
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert [(call["index"], call["function"]["name"]) for call in calls] == [(0, "add"), (1, "paint")]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"a": 1}, {}]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Both:"
    assert choices[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("text", "last", "reason"),
    [
        ("Hi", STOP, "stop"),
        ('<call>add:{"a": 1}</call>', LENGTH, "length"),
        ('<call>add:{"a": ', LENGTH, "length"),
        ('<call>add:{"a": ', STOP, "stop"),
    ],
)
def test_only_whole_calls_that_end_the_answer_are_its_finish_reason(text, last, reason):
    assert body_of(builder(tools=TOOLS), [Delta(text), last])["choices"][0]["finish_reason"] == reason


def test_without_tools_what_looks_like_a_call_is_text():
    text = '<call>add:{"a": 1}</call>'
    assert message_of([Delta(text), STOP]) == {"role": "assistant", "content": text, "refusal": None}


def token(text: str) -> TokenLogprob:
    return TokenLogprob(text, text.encode(), -0.5, [Logprob("x", b"x", -1.0)])


def test_each_token_has_text_bytes_logprob_and_alternatives():
    choice = body_of(builder(), [Delta("é", logprobs=[token("é")]), STOP])["choices"][0]
    assert choice["logprobs"] == {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [0xC3, 0xA9],
                "top_logprobs": [{"token": "x", "logprob": -1.0, "bytes": [0x78]}],
            }
        ],
        "refusal": None,
    }


def test_logprobs_of_text_that_is_held_back_come_with_the_next_chunk_and_none_is_lost():
    texts = ["<thi", "nk>", "Hm", "</think>", "Yes", "."]
    deltas = [*(Delta(text, logprobs=[token(text)]) for text in texts), STOP]
    streamed = [one for choice in choices_of(deltas) for one in (choice["logprobs"] or {"content": []})["content"]]
    assert [one["token"] for one in streamed] == texts
    assert streamed == body_of(builder(), deltas)["choices"][0]["logprobs"]["content"]


def test_logprobs_of_text_that_never_comes_are_in_a_chunk_of_their_own():
    *_, held, end = choices_of([Delta("Hi", logprobs=[token("Hi")]), Delta("", logprobs=[token("<e>")]), STOP])
    assert (held["delta"], held["logprobs"]["content"][0]["token"]) == ({"content": ""}, "<e>")
    assert end["logprobs"] is None
