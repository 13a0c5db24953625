"""Handlers of the list of conversations."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import gradio as gr
import pytest

from components.chat.storage.conversations import Conversations
from tests.components.chat.helpers import DONE, contents, store


def arrive(view, conversation: str = "", user: str = "ann"):
    """What the page shows after it is loaded."""
    chat_load, _ = [fn.fn for fn in view.page.fns.values() if fn.fn and "load" in {event for _, event in fn.targets}]
    return asyncio.run(chat_load(conversation, gr.Request(username=user)))


def test_a_page_that_is_loaded_shows_what_the_window_showed_or_the_last_conversation(view):
    first, _ = store(view.conversations, "first", DONE)
    last, _ = store(view.conversations, "last", DONE)
    others, _ = store(view.conversations, "secret", DONE, user="bob")
    assert arrive(view, first)[view.chat.conversation] == first
    for unknown in ("", "gone", others):
        assert arrive(view, unknown)[view.chat.conversation] == last


def test_a_page_of_a_new_user_is_left_as_it_is(view):
    assert list(arrive(view)) == [view.chat.status], "a question that was asked meanwhile stays"


def test_opening_shows_turns_system_prompt_and_the_model_that_answered(view):
    conversation, turn = store(view.conversations, "q", DONE, system="Be kind.")
    view.conversations.rate("ann", turn, True)
    asyncio.run(view.servers.models())
    opened = asyncio.run(view.call(view.chat.list, "input", conversation))
    assert opened[view.chat.system] == "Be kind."
    assert opened[view.chat.chatbot]["feedback_value"] == ["Like"]
    assert view.chat.model not in opened, "model m is not served"
    view.conversations.save_answer("ann", view.conversations.add_question("ann", conversation, "2", ""), "two", DONE)
    opened = asyncio.run(view.call(view.chat.reopen, "click", conversation))
    assert opened[view.chat.model]["value"] == "two"


def test_another_users_conversation_is_neither_opened_nor_changed(view):
    conversation, _ = store(view.conversations, "secret", DONE, user="bob")
    parts = view.chat
    for component, event, values in (
        (parts.list, "input", ()), (parts.title, "submit", ("mine",)), (parts.clear, "click", ()),
        (parts.delete, "click", ()), (parts.save_rows, "click", ()),
    ):  # fmt: skip
        result = asyncio.run(view.call(component, event, conversation, *values))
        assert result == {parts.status: "⚠ this conversation is not there any more; begin a new one"}
    assert view.conversations.titles("bob") == [("secret", conversation)]


def test_the_list_has_all_titles_and_the_open_ones_title_is_shown(view):
    conversation, _ = store(view.conversations, "first", DONE)
    store(view.conversations, "second", DONE)
    listed, title = asyncio.run(view.call(view.chat.conversation, "change", conversation))
    assert [label for label, _ in listed["choices"]] == ["second", "first"]
    assert (listed["value"], title) == (conversation, "first")
    listed, title = asyncio.run(view.call(view.chat.conversation, "change", ""))
    assert (listed["value"], title) == (None, "")


def test_renaming_strips_the_title_and_says_what_is_missing(view):
    conversation, _ = store(view.conversations, "first", DONE)
    rename = view.chat.title
    result = asyncio.run(view.call(rename, "submit", conversation, "  better "))
    assert (result[view.chat.title], result[view.chat.status]) == ("better", "Renamed.")
    for values, message in ((("", "x"), "no conversation to rename"), ((conversation, " "), "Write a title first.")):
        assert message in asyncio.run(view.call(rename, "submit", *values))[view.chat.status]
    assert view.conversations.titles("ann") == [("better", conversation)]


def test_clearing_keeps_the_conversation_open_and_deleting_closes_it(view):
    conversation, _ = store(view.conversations, "q", DONE)
    cleared = asyncio.run(view.call(view.chat.clear, "click", conversation))
    assert cleared[view.chat.conversation] == conversation
    assert contents(view.conversations, conversation) == []
    deleted = asyncio.run(view.call(view.chat.delete, "click", conversation))
    assert deleted[view.chat.conversation] == ""
    assert view.conversations.titles("ann") == []


@pytest.mark.parametrize("button", ["clear", "delete"])
def test_a_refused_confirmation_sends_no_conversation_and_changes_nothing(view, button):
    store(view.conversations, "q", DONE)
    assert list(asyncio.run(view.call(getattr(view.chat, button), "click", ""))) == [view.chat.status]
    assert len(view.conversations.titles("ann")) == 1


def test_exports_are_markdown_and_rows_named_after_the_title(view):
    conversation, _ = store(view.conversations, "keep this", DONE)
    parts = view.chat
    markdown = asyncio.run(view.call(parts.save_markdown, "click", conversation))
    rows = asyncio.run(view.call(parts.save_rows, "click", conversation))
    assert (markdown[parts.file_name], rows[parts.file_name]) == ("keep-this.md", "keep-this.jsonl")
    assert "## m\n\nyes" in markdown[parts.file_text]
    assert len(json.loads(rows[parts.file_text])["messages"]) == 2


def test_an_export_of_nothing_gives_no_file(view):
    conversation, _ = store(view.conversations, "q", DONE)
    view.conversations.clear("ann", conversation)
    for empty, message in (("", "no conversation to export yet"), (conversation, "has no messages yet")):
        result = asyncio.run(view.call(view.chat.save_markdown, "click", empty))
        assert message in result.pop(view.chat.status)
        assert result == {}


def test_an_error_of_the_database_is_shown(view, monkeypatch):
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Conversations, "load", fail)
    result = asyncio.run(view.call(view.chat.list, "input", "any"))
    assert "The page's database fails: disk I/O error." in result[view.chat.status]
