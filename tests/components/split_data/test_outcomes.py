"""Excerpts of rows: one line, not too long, and such that a file can hold them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.contracts import Message
from components.split_data.outcomes import OUTCOMES, SPLITS, excerpt_of, shorten
from tests.properties import quick


def test_splits_are_outcomes():
    assert (*SPLITS, "unused", "dropped") == OUTCOMES


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("a  b\n c", "a b c"),
        ("abcdefghij", "abcdefghij"),
        ("abcdefghijk", "abcdefghi…"),
        ("", ""),
        ("a\ud83d", "a?"),
    ],
)
def test_a_text_is_shortened_to_one_line_of_a_length(text, short):
    assert shorten(text, 10) == short


@quick
@given(st.text(), st.integers(1, 40))
def test_a_short_text_is_never_longer_and_can_be_written(text, length):
    short = shorten(text, length)
    assert len(short) <= length
    assert "\n" not in short
    assert short.encode().decode() == short


def test_an_excerpt_is_the_last_question_and_its_answer():
    messages = [Message(role=role, content=role[0] * 200) for role in ("user", "assistant") * 2]
    messages[0] = Message(role="user", content="first")
    assert excerpt_of(messages) == f"{'u' * 119}… → {'a' * 159}…"
