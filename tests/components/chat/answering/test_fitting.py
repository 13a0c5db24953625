"""Shortening a conversation to what fits into a context."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.chat.answering.fitting import SHARE_TO_KEEP, shortened
from tests.components.chat.helpers import turns


def letters(said) -> list[str]:
    return [turn.content[0] for turn in said]


def test_a_shortened_conversation_begins_with_a_question_and_keeps_what_is_needed():
    said = turns("a" * 10, "b" * 10, "c" * 10, "d" * 10, "e")
    assert letters(shortened(said, n_needed=1)) == ["c", "d", "e"]
    assert letters(shortened(said[2:], n_needed=1)) == ["e"]
    assert shortened(said[4:], n_needed=1) == ()
    assert letters(shortened(said[:4], n_needed=2)) == ["c", "d"]
    assert shortened(said[:2], n_needed=2) == ()


@given(st.lists(st.text("x", min_size=1, max_size=30), min_size=1, max_size=9))
def test_shortening_ends_and_always_keeps_the_newest_turns(texts):
    said = turns(*texts)
    while said:
        shorter = shortened(said, n_needed=1)
        assert len(shorter) < len(said)
        assert shorter == said[len(said) - len(shorter) :]
        if len(shorter) > 1:
            assert shorter[0].role == "user"
            assert sum(len(turn.content) for turn in shorter) <= SHARE_TO_KEEP * sum(map(len, texts))
        said = shorter
