"""Conversations as messages for servers, as Markdown, and as training rows."""

from __future__ import annotations

import json

import pytest

from components.chat.storage.conversations import Conversation
from components.chat.storage.export import as_markdown, as_messages, as_rows, file_name
from tests.components.chat.helpers import DONE, store, turns


def test_messages_have_the_system_prompt_and_join_unanswered_questions(conversations):
    (conversation,) = store(conversations, "a", system="Be kind.")
    opened = conversations.add_question("ann", conversation, "b", "Be kind.")
    assert as_messages(opened.system, [(turn.role, turn.content) for turn in opened.turns]) == [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "a\n\nb"},
    ]  # fmt: skip


def test_a_blank_system_prompt_is_left_out_and_answers_are_never_joined():
    spoken = [("user", "a"), ("assistant", "b"), ("assistant", "c")]
    assert [message["content"] for message in as_messages(" \n", spoken)] == ["a", "b", "c"]


def test_markdown_has_the_models_and_figures(conversations):
    conversation, _ = store(conversations, "What is /etc/passwd?", DONE, system="Be kind.")
    text = as_markdown(conversations.load("ann", conversation))
    assert text.startswith("# What is /etc/passwd?\n\n*System prompt:* Be kind.\n\n## User\n\nWhat is")
    assert "## m\n\nyes\n\n*4 tokens" in text


def test_a_row_ends_with_the_last_answer(conversations):
    conversation, _ = store(conversations, "ä", DONE, system="Be kind.")
    opened = conversations.add_question("ann", conversation, "unanswered", "Be kind.")
    row = as_rows(opened)
    assert [message["content"] for message in json.loads(row)["messages"]] == ["Be kind.", "ä", "yes"]
    assert "ä" in row
    assert row.count("\n") == 1


def test_a_conversation_without_an_answer_is_an_empty_row():
    assert json.loads(as_rows(Conversation("1", "t", "s", turns("q")))) == {"messages": []}


@pytest.mark.parametrize(
    ("title", "name"),
    [("What is /etc/passwd?", "What-is-etc-passwd.md"), ("Äpfel & Öl", "Äpfel-Öl.md"), ("../..", "chat.md"),
     ("x" * 99, "x" * 40 + ".md")],
)  # fmt: skip
def test_a_file_is_named_after_the_title_without_any_path(title, name):
    assert file_name(Conversation("1", title, "", ()), "md") == name
