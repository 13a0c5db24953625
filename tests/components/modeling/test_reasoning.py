"""Thoughts told apart from the answer, whole and in pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.model_server.engine.interface import Delta
from components.model_server.http.responses.chat_completion import ChatCompletionBuilder
from components.modeling.chat_template import Edges
from components.modeling.reasoning import ReasoningStream, before_reasoning, split_reasoning

CASES = [
    ("Paris.", False, None, "Paris."),
    ("  Paris.", False, None, "  Paris."),
    ("<think>\nHm.\n</think>\n\nParis.", False, "Hm.", "Paris."),
    ("\n<think></think>\nParis.", False, None, "Paris."),
    ("Hm.\n</think>\n\nParis.", True, "Hm.", "Paris."),
    ("\n</think>\n\nParis.", True, None, "Paris."),
    ("<think>Hm.", False, "Hm.", ""),
    ("Hm, and no end", True, "Hm, and no end", ""),
    ("Is 1 <think> 2?", False, None, "Is 1 <think> 2?"),
    ("<thin air", False, None, "<thin air"),
    ("<think>a</thin b</think>c</think>", False, "a</thin b", "c</think>"),
    ("", True, None, ""),
]


@pytest.mark.parametrize(("text", "opened", "thoughts", "answer"), CASES)
def test_thoughts_and_answer_are_told_apart(text, opened, thoughts, answer):
    assert split_reasoning(text, opened=opened) == (thoughts, answer)


def test_white_space_of_the_template_is_no_part_of_the_answer():
    edges = Edges(" ", "\n ")
    for text, answer in (
        (" Paris is\n it.\n ", "Paris is\n it."),
        ("Paris.", "Paris."),
        ("  x\n \n ", " x\n "),
        (" ", ""),
    ):
        assert split_reasoning(text, edges=edges) == (None, answer)
        stream = ReasoningStream(edges=edges)
        said = [piece for letter in text for piece in stream.feed(letter)] + stream.rest()
        assert "".join(piece.text for piece in said) == answer


@given(
    st.sampled_from([(text, opened) for text, opened, *_ in CASES])
    | st.tuples(
        st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", " ", "\n", "a", "b c"])).map("".join),
        st.booleans(),
    ),
    st.lists(st.integers(min_value=1, max_value=6), min_size=1),
)
def test_pieces_give_what_the_whole_gives(case, sizes):
    text, opened = case
    stream, said, at, n = ReasoningStream(opened=opened), [], 0, 0
    while at < len(text):
        size = sizes[n % len(sizes)]
        said += stream.feed(text[at : at + size])
        at, n = at + size, n + 1
    said += stream.rest()
    assert all(piece.text for piece in said)
    thoughts = "".join(piece.text for piece in said if piece.is_reasoning)
    answer = "".join(piece.text for piece in said if not piece.is_reasoning)
    assert (thoughts or None, answer) == split_reasoning(text, opened=opened)


@pytest.mark.parametrize(
    ("prompt", "before"), [("a<think>\n", "a"), ("a<think>", "a"), ("a<think>\n\n</think>\n\n", None), ("a", None)]
)
def test_a_prompt_that_ends_within_thoughts_is_known(prompt, before):
    assert before_reasoning(prompt) == before


async def deltas(texts: list[str]) -> AsyncGenerator[Delta]:
    for text in texts:
        yield Delta(text)
    yield Delta("", finish_reason="stop")


@pytest.mark.parametrize("opened", [True, False])
def test_an_answer_carries_its_thoughts_in_a_field_of_their_own_whole_and_streamed(opened):
    texts = ["" if opened else "<thi", "" if opened else "nk>", "\nHm", ".\n</th", "ink>\n", "\nPar", "is."]

    async def both() -> tuple[dict, list[dict]]:
        whole = await ChatCompletionBuilder("m", lambda _: None, opened=opened).body(deltas(texts))
        answer = ChatCompletionBuilder("m", lambda _: None, opened=opened)
        events = [event async for event in answer.events(deltas(texts), include_usage=False) if event[0] != ":"]
        assert events.pop() == "data: [DONE]\n\n"
        return whole, [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]

    whole, choices = asyncio.run(both())
    message = whole["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Paris.", "reasoning_content": "Hm.", "refusal": None}
    assert "".join(choice["delta"].get("reasoning_content", "") for choice in choices) == "Hm."
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Paris."
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
