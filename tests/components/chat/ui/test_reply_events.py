"""Handlers of the events that start or stop a reply."""

from __future__ import annotations

import asyncio

import pytest

from components.chat.storage.completion import Completion
from tests.components.chat.helpers import contents, reply, store

STOPPED = Completion("half", 2, 0.1, 0.2, "stopped")


def test_a_question_begins_a_conversation_of_its_user_and_is_answered(view):
    parts, result = view.chat, asyncio.run(view.ask(" hello "))
    assert contents(view.conversations, result[parts.conversation]) == ["hello", "yes"]
    assert [message["content"][0]["text"] for message in result[parts.chatbot]] == ["hello"]
    assert 'data-state="running"' in result[parts.state_css]
    assert result[parts.accepted], "the browser empties its draft"
    assert view.conversations.titles("bob") == []


def test_each_accepted_question_has_a_new_token_and_a_rejected_one_has_none(view):
    first, second = (asyncio.run(view.ask(question))[view.chat.accepted] for question in ("one", "two"))
    assert first != second
    rejected = asyncio.run(view.ask("  "))
    assert rejected == {view.chat.status: "Write something first."}


@pytest.mark.parametrize(
    ("seed", "message"),
    [("seven", "A value in the settings is not a number; correct it there."), ("7", "Reading your prompt…")],
)
def test_a_setting_that_is_not_a_number_is_named_and_nothing_is_asked(view, seed, message):
    result = asyncio.run(view.ask("q", seed=seed))
    assert message in result[view.chat.status]
    assert [body.get("seed") for body in view.api.bodies] == ([7] if seed == "7" else [])


def test_another_users_conversation_is_not_there(view):
    (conversation,) = store(view.conversations, "secret", user="bob")
    result = asyncio.run(view.ask("let me in", conversation=conversation))
    assert result == {view.chat.status: "⚠ this conversation is not there any more; begin a new one"}
    assert view.api.bodies == []


def test_a_user_who_is_not_known_any_more_is_asked_to_load_the_page(view):
    result = asyncio.run(view.ask("q", user=""))
    assert "load it again" in result[view.chat.status]


def test_an_example_is_asked_as_it_stands(view):
    async def scenario() -> dict[object, object]:
        data = {"index": 0, "value": {"text": "What is Lorry?"}}
        result = await view.call(view.chat.chatbot, "example_select", *view.chosen(), data=data)
        await view.replied()
        return result

    result = asyncio.run(scenario())
    assert contents(view.conversations, result[view.chat.conversation]) == ["What is Lorry?", "yes"]


def test_an_edited_question_replaces_the_turns_after_it_unless_another_window_changed_it(view):
    conversation, _ = store(view.conversations, "before", Completion("a", 1, 0.1, 0.2, "stop"))

    async def edit(previous: str) -> dict[object, object]:
        data = {"index": 0, "value": "after", "previous_value": previous}
        result = await view.call(view.chat.chatbot, "edit", *view.chosen(conversation), data=data)
        await view.replied()
        return result

    assert "Another window has changed this conversation" in asyncio.run(edit("other"))[view.chat.status]
    asyncio.run(edit("before"))
    assert contents(view.conversations, conversation) == ["after", "yes"]


@pytest.mark.parametrize(("temperature", "sent"), [(0.0, 0.7), (0.3, 0.3)])
def test_retry_replaces_the_answer_at_a_temperature_above_zero(view, temperature, sent):
    conversation, _ = store(view.conversations, "q", Completion("old", 1, 0.1, 0.2, "stop"))

    async def retry() -> dict[object, object]:
        result = await view.call(view.chat.retry, "click", *view.chosen(conversation, temperature=temperature))
        await view.replied()
        return result

    result = asyncio.run(retry())
    assert contents(view.conversations, conversation) == ["q", "yes"]
    assert view.api.bodies[0]["temperature"] == sent
    assert result[view.chat.chatbot]["feedback_value"] == [], "the mark of the old answer goes"


def test_retry_of_a_question_without_an_answer_keeps_its_temperature(view):
    (conversation,) = store(view.conversations, "q")

    async def retry() -> None:
        await view.call(view.chat.retry, "click", *view.chosen(conversation))
        await view.replied()

    asyncio.run(retry())
    assert view.api.bodies[0]["temperature"] == 0.0


@pytest.mark.parametrize("cleared", [True, False])
def test_there_is_nothing_to_retry_in_an_empty_conversation(view, cleared):
    (conversation,) = store(view.conversations, "q") if cleared else ("",)
    if cleared:
        view.conversations.clear("ann", conversation)
    result = asyncio.run(view.call(view.chat.retry, "click", *view.chosen(conversation)))
    assert result == {view.chat.status: "There is nothing to ask again."}


def test_go_on_appends_to_an_answer_that_was_stopped(view):
    conversation, _ = store(view.conversations, "q", STOPPED)

    async def go_on() -> None:
        await view.call(view.chat.go_on, "click", *view.chosen(conversation))
        await view.replied()

    asyncio.run(go_on())
    assert contents(view.conversations, conversation) == ["q", "halfyes"]


def test_go_on_follows_a_reply_that_another_window_has_started(view):
    conversation, _ = store(view.conversations, "q", STOPPED)

    async def twice() -> dict[object, object]:
        first, second = [await view.call(view.chat.go_on, "click", *view.chosen(conversation)) for _ in range(2)]
        assert view.chat.conversation in first
        await view.replied()
        return second

    second = asyncio.run(twice())
    assert list(second) == [view.chat.state_css]
    assert 'data-state="running"' in second[view.chat.state_css]
    assert len(view.api.bodies) == 1


@pytest.mark.parametrize("answered", [True, False])
def test_without_an_answer_there_is_nothing_to_go_on_with(view, answered):
    (conversation,) = store(view.conversations, "q") if answered else ("",)
    result = asyncio.run(view.call(view.chat.go_on, "click", *view.chosen(conversation)))
    assert result == {view.chat.status: "There is nothing to go on with."}


def test_stop_ends_only_the_users_own_reply(view):
    async def scenario() -> str:
        opened = view.conversations.add_question("ann", "", "q", "")
        reply(view.conversations, opened, STOPPED)
        await view.call(view.chat.go_on, "click", *view.chosen(opened.id))
        (answer,) = view.running._answers["chat", "ann", opened.id]
        await view.call(view.chat.stop, "click", opened.id, user="bob")
        assert answer.end_reason is None
        await view.call(view.chat.stop, "click", opened.id)
        await view.replied()
        return str(answer.end_reason)

    assert asyncio.run(scenario()) == "stop"
