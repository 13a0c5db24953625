"""Reasoning split from the answer, of a whole text and of a streamed one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.modeling.chat_template import Edges
from components.modeling.reasoning import (
    PLAIN,
    AssistantDelta,
    ReasoningStream,
    before_reasoning,
    n_overlap,
    split_reasoning,
)

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
    ("<think>a <", False, "a <", ""),
    ("a  </thin", True, "a  </thin", ""),
    ("", True, None, ""),
]


def streamed(text: str, sizes: Sequence[int], *, opened: bool = False, edges: Edges = PLAIN) -> tuple[str | None, str]:
    """Reasoning and answer of a text that comes in deltas of ``sizes`` characters, over and over."""
    stream, deltas, at = ReasoningStream(opened=opened, edges=edges), [], 0
    for size in itertools.cycle(sizes):
        if at >= len(text):
            break
        deltas += stream.feed(text[at : at + size])
        at += size
    deltas += stream.rest()
    assert all(delta.text for delta in deltas)
    reasoning, answer = ("".join(d.text for d in deltas if d.is_reasoning is kind) for kind in (True, False))
    return reasoning or None, answer


@pytest.mark.parametrize(("text", "opened", "reasoning", "answer"), CASES)
def test_reasoning_and_answer_are_split(text, opened, reasoning, answer):
    assert split_reasoning(text, opened=opened) == (reasoning, answer)
    assert streamed(text, [1], opened=opened) == (reasoning, answer)


def test_white_space_of_the_template_is_no_part_of_the_answer():
    edges = Edges(" ", "\n ")
    for text, answer in (
        (" Paris is\n it.\n ", "Paris is\n it."),
        ("Paris.", "Paris."),
        ("  x\n \n ", " x\n "),
        (" ", ""),
    ):
        assert split_reasoning(text, edges=edges) == (None, answer)
        assert streamed(text, [1], edges=edges)[1] == answer


@given(
    st.sampled_from([(text, opened) for text, opened, *_ in CASES])
    | st.tuples(
        st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", " ", "\n", "a", "b c"])).map("".join),
        st.booleans(),
    ),
    st.lists(st.integers(min_value=1, max_value=6), min_size=1),
)
def test_a_streamed_text_is_split_like_the_whole(case, sizes):
    text, opened = case
    assert streamed(text, sizes, opened=opened) == split_reasoning(text, opened=opened)


def test_a_delta_is_given_as_soon_as_no_tag_can_begin_in_it():
    stream = ReasoningStream()
    assert stream.feed("<think>We ") == [AssistantDelta("We", is_reasoning=True)]
    assert stream.feed("add<") == [AssistantDelta(" add", is_reasoning=True)]
    assert stream.feed("/think") == []
    assert stream.feed(">Four") == [AssistantDelta("Four", is_reasoning=False)]
    assert stream.rest() == []


@pytest.mark.parametrize(("text", "n"), [("ab<", 1), ("ab</thi", 5), ("ab</think>", 0), ("ab", 0), ("<</", 2), ("", 0)])
def test_the_overlap_is_the_longest_end_that_begins_the_tag(text, n):
    assert n_overlap(text, "</think>") == n


@pytest.mark.parametrize(
    ("prompt", "before"), [("a<think>\n", "a"), ("a<think>", "a"), ("a<think>\n\n</think>\n\n", None), ("a", None)]
)
def test_a_prompt_that_opens_reasoning_is_recognized(prompt, before):
    assert before_reasoning(prompt) == before
