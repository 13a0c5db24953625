"""Shortening a conversation to what fits into a context."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.chat.answering.fitting import SHARE_TO_KEEP, shortened
from tests.components.chat.helpers import turns


def letters(conversation) -> list[str]:
    return [turn.content[0] for turn in conversation]


def test_a_shortened_conversation_begins_with_a_question_and_keeps_what_is_needed():
    conversation = turns("a" * 10, "b" * 10, "c" * 10, "d" * 10, "e")
    assert letters(shortened(conversation, n_needed=1)) == ["c", "d", "e"]
    assert letters(shortened(conversation[2:], n_needed=1)) == ["e"]
    assert shortened(conversation[4:], n_needed=1) == ()
    assert letters(shortened(conversation[:4], n_needed=2)) == ["c", "d"]
    assert shortened(conversation[:2], n_needed=2) == ()


@given(st.lists(st.text("x", min_size=1, max_size=30), min_size=1, max_size=9))
def test_shortening_ends_and_always_keeps_the_newest_turns(texts):
    conversation = turns(*texts)
    while conversation:
        shorter = shortened(conversation, n_needed=1)
        assert len(shorter) < len(conversation)
        assert shorter == conversation[len(conversation) - len(shorter) :]
        if len(shorter) > 1:
            assert shorter[0].role == "user"
            assert sum(len(turn.content) for turn in shorter) <= SHARE_TO_KEEP * sum(map(len, texts))
        conversation = shorter
