"""Handlers of Like, Dislike and the note."""

from __future__ import annotations

import asyncio

import pytest

from tests.components.chat.helpers import DONE, store


def like(view, conversation: str, index: int, value: str, liked: object):
    data = {"index": index, "value": value, "liked": liked}
    return asyncio.run(view.call(view.chat.chatbot, "like", conversation, data=data))


@pytest.mark.parametrize(
    ("mark", "liked", "message", "marks"),
    [
        ("Like", True, "good answer", ["Like"]),
        ("Dislike", False, "bad answer", ["Dislike"]),
        ("", None, "Taken", [None]),
    ],
)
def test_a_mark_is_stored_and_the_note_is_asked_for(view, mark, liked, message, marks):
    conversation, turn = store(view.conversations, "q", DONE)
    result = like(view, conversation, 1, "yes", mark)
    parts = view.chat
    assert view.conversations.load("ann", conversation).turns[1].liked is liked
    assert message in result[parts.status]
    assert result[parts.rated] == str(turn)
    assert ("#why" in result[parts.state_css]) == (liked is None)
    assert result[parts.chatbot]["feedback_value"] == marks
    assert "value" not in result[parts.chatbot], "an answer may be growing"


@pytest.mark.parametrize(
    ("index", "value", "message"), [(1, "another answer", "Another window has changed"), (2, "x", "was not saved")]
)
def test_an_answer_that_is_another_one_by_now_is_not_marked(view, index, value, message):
    conversation, _ = store(view.conversations, "q", DONE)
    result = like(view, conversation, index, value, "Like")
    assert message in result[view.chat.status]
    assert view.conversations.load("ann", conversation).turns[1].liked is None


def test_a_note_is_stored_with_the_opinion_and_shown_again(view):
    conversation, turn = store(view.conversations, "q", DONE)
    like(view, conversation, 1, "yes", "Like")
    result = asyncio.run(view.call(view.chat.note, "submit", conversation, str(turn), "  because "))
    assert "your note is saved" in result[view.chat.status]
    assert "#why" in result[view.chat.state_css]
    assert view.conversations.load("ann", conversation).turns[1].note == "because"
    assert like(view, conversation, 1, "yes", "Dislike")[view.chat.note] == "because"


def test_a_note_on_another_users_answer_is_refused(view):
    mine, _ = store(view.conversations, "mine", DONE)
    _, theirs = store(view.conversations, "theirs", DONE, user="bob")
    result = asyncio.run(view.call(view.chat.note, "submit", mine, str(theirs), "x"))
    assert "this answer is not there any more" in result[view.chat.status]
