"""Conversations: branches, titles, and the boundaries between users."""

from __future__ import annotations

import pytest

from components.chat.storage.completion import Completion
from components.chat.storage.conversations import LONGEST_TITLE
from components.errors import DataError
from tests.components.chat.helpers import DONE, contents, reply, store


def test_a_user_reads_and_changes_only_their_own_conversations(conversations):
    conversation, turn = store(conversations, "secret", DONE)
    opened = conversations.load("ann", conversation)
    question = opened.turns[0].id
    assert [title for title, _ in conversations.titles("ann")] == ["secret"]
    assert conversations.titles("bob") == []
    for forbidden in (
        lambda: conversations.load("bob", conversation),
        lambda: conversations.add_question("bob", conversation, "x", ""),
        lambda: conversations.add_question("bob", "", "x", "", replaces=question),
        lambda: conversations.rewind("bob", conversation, ""),
        lambda: conversations.save_answer("bob", opened, "m", DONE),
        lambda: conversations.clear("bob", conversation),
        lambda: conversations.rename("bob", conversation, "x"),
        lambda: conversations.delete("bob", conversation),
        lambda: conversations.rate("bob", turn, True),
        lambda: conversations.set_note("bob", turn, "x"),
    ):
        with pytest.raises(DataError, match="is not there any more"):
            forbidden()
    assert conversations.load("ann", conversation) == opened
    assert conversations.titles("bob") == [], "a question that is refused leaves no empty conversation"


def test_rewinding_and_editing_begin_branches_and_nothing_is_lost(conversations, database):
    conversation, *_ = store(conversations, "q", Completion("one", 1, 0.1, 1.0, "stop"), DONE)
    assert contents(conversations, conversation) == ["q", "yes"]
    conversations.add_question("ann", conversation, "then", "")
    assert contents(conversations, conversation) == ["q", "yes", "then"]
    first = conversations.load("ann", conversation).turns[0]
    edited = conversations.add_question("ann", conversation, "other", "Be kind.", replaces=first.id)
    assert (edited.system, [turn.content for turn in edited.turns]) == ("Be kind.", ["other"])
    with database.transaction() as tables:
        stored = [row["content"] for row in tables.execute("SELECT content FROM turn ORDER BY id")]
    assert stored == ["q", "one", "yes", "then", "other"]


def test_clearing_keeps_the_stored_turns_and_deleting_removes_them(conversations, database):
    def n_stored() -> int:
        with database.transaction() as tables:
            return tables.execute("SELECT count(*) FROM turn").fetchone()[0]

    conversation, _ = store(conversations, "q", DONE)
    conversations.clear("ann", conversation)
    assert contents(conversations, conversation) == []
    assert n_stored() == 2
    conversations.delete("ann", conversation)
    assert n_stored() == 0
    with pytest.raises(DataError, match="begin a new one"):
        conversations.load("ann", conversation)


def test_an_edited_question_in_the_middle_keeps_the_turns_before_it(conversations):
    conversation, _ = store(conversations, "first", DONE)
    opened = conversations.add_question("ann", conversation, "second", "")
    reply(conversations, opened, DONE)
    conversations.add_question("ann", conversation, "changed", "", replaces=opened.turns[-1].id)
    assert contents(conversations, conversation) == ["first", "yes", "changed"]


def test_only_a_question_can_be_replaced_and_only_an_answer_rated(conversations):
    conversation, answer = store(conversations, "q", DONE)
    question = conversations.load("ann", conversation).turns[0].id
    with pytest.raises(DataError, match="this question is not there any more"):
        conversations.add_question("ann", conversation, "x", "", replaces=answer)
    with pytest.raises(DataError, match="this answer is not there any more"):
        conversations.rate("ann", question, True)


def test_rewinding_an_empty_conversation_changes_only_its_system_prompt(conversations):
    conversation, _ = store(conversations, "q", DONE)
    conversations.clear("ann", conversation)
    assert conversations.rewind("ann", conversation, "Be kind.").turns == ()
    assert conversations.load("ann", conversation).system == "Be kind."


def test_an_answer_that_comes_late_does_not_undo_a_newer_question(conversations):
    (conversation,) = store(conversations, "q")
    opened = conversations.load("ann", conversation)
    conversations.add_question("ann", conversation, "instead", "", replaces=opened.turns[0].id)
    reply(conversations, opened, DONE)
    assert contents(conversations, conversation) == ["instead"]


def test_a_growing_answer_is_one_turn_with_its_last_figures(conversations):
    (conversation,) = store(conversations, "q")
    opened = conversations.load("ann", conversation)
    turn = conversations.save_answer("ann", opened, "m", Completion("ha", 1, 0.1, 0.2, "broken"))
    again = conversations.save_answer("ann", opened, "other", Completion("half", 2, 0.1, 0.4, "stop"), turn=turn)
    (_, answer) = conversations.load("ann", conversation).turns
    assert turn == again == answer.id
    assert (answer.model, answer.completion) == ("other", Completion("half", 2, 0.1, 0.4, "stop"))


def test_an_answer_cannot_be_written_into_a_turn_of_another_conversation(conversations):
    mine, turn = store(conversations, "mine", DONE)
    (other,) = store(conversations, "other")
    conversations.save_answer("ann", conversations.load("ann", other), "m", Completion("no"), turn=turn)
    assert contents(conversations, mine) == ["mine", "yes"]


def test_titles_come_from_the_question_and_the_last_changed_is_first(conversations):
    store(conversations, "first")
    (second,) = store(conversations, "  two\n lines  ")
    store(conversations, "x" * 100)
    conversations.add_question("ann", second, "again", "")
    titles = [title for title, _ in conversations.titles("ann")]
    assert titles == ["two lines", "x" * (LONGEST_TITLE - 1) + "…", "first"]
    conversations.rename("ann", second, "renamed")
    assert ("renamed", second) in conversations.titles("ann")


@pytest.mark.parametrize("liked", [True, False])
def test_an_opinion_is_stored_and_removed_with_its_note(conversations, liked):
    conversation, turn = store(conversations, "q", DONE)
    conversations.rate("ann", turn, liked)
    conversations.set_note("ann", turn, "because")
    stored = conversations.load("ann", conversation).turns[-1]
    assert (stored.liked, stored.note) == (liked, "because")
    conversations.rate("ann", turn, None)
    stored = conversations.load("ann", conversation).turns[-1]
    assert (stored.liked, stored.note) == (None, "")
