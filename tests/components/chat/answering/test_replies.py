"""Replies: models that come and go, contexts that fill up, and windows that follow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from components.chat.answering.replies import ReplyRequest, ReplySnapshot
from components.chat.client.settings import Settings
from components.chat.storage.completion import STOPPED, Completion
from tests.components.chat.helpers import DONE, Page, last, page_over
from tests.openai_stub import Stub


def test_a_renamed_model_is_replaced_by_one_that_is_listed_and_the_page_says_so(database):
    async def scenario(stub: Stub) -> list[ReplySnapshot]:
        async with page_over(database, stub.address) as page:
            await page.servers.models()
            first = await page.ask("hello")
            stub.model = "renamed"
            second = await page.ask("again", first.conversation)
            return [first, second, await page.ask("and", first.conversation, model="renamed")]

    with Stub() as stub:
        before, renamed, after = asyncio.run(scenario(stub))
    assert (before.relist, before.text) == (False, "stub heard: hello")
    assert (renamed.relist, renamed.text) == (True, "renamed heard: again")
    assert "stub is not available now: renamed answers" in renamed.status
    assert renamed.turns[-1].model == "renamed"
    assert "is not available" not in after.status


def test_a_model_whose_server_is_gone_is_replaced_and_a_refusal_of_one_that_is_there_is_not(database):
    async def scenario(one: Stub, two: Stub) -> list[ReplySnapshot]:
        async with page_over(database, one.address, two.address) as page:
            await page.servers.models()
            refused = await page.ask("refuse", model="one")
            two.__exit__()
            return [refused, await page.ask("hello", model="two")]

    with Stub("one") as one, Stub("two") as two:
        refused, replaced = asyncio.run(scenario(one, two))
    assert refused.status == "⚠ The model server refuses: the prompt has 9 tokens too many"
    assert refused.relist
    assert replaced.text == "one heard: hello"
    assert "two is not available now: one answers" in replaced.status


def test_a_label_that_was_never_listed_is_looked_up_first(database):
    async def scenario(stub: Stub) -> list[ReplySnapshot]:
        async with page_over(database, stub.address) as page:
            listed = await page.ask("hello", model="stub")
        async with page_over(database, stub.address) as page:
            return [listed, await page.ask("hello", model="from an old page")]

    with Stub() as stub:
        listed, replaced = asyncio.run(scenario(stub))
    assert (listed.text, listed.relist) == ("stub heard: hello", False)
    assert "from an old page is not available now: stub answers" in replaced.status


def test_without_any_server_the_reply_says_which_one_was_asked(database):
    async def scenario() -> ReplySnapshot:
        async with page_over(database, "http://127.0.0.1:9") as page:
            return await page.ask("hello")

    gone = asyncio.run(scenario())
    assert gone.status == "⚠ No model server answers at http://127.0.0.1:9/v1. Is it running? Press Retry to ask again."
    assert (gone.text, gone.done, gone.relist) == ("", True, True)
    assert [turn.role for turn in gone.turns] == ["user"]


def test_a_conversation_that_is_too_long_goes_on_without_its_oldest_messages(database):
    async def scenario(stub: Stub) -> list[ReplySnapshot]:
        async with page_over(database, stub.address) as page:
            snapshot = await page.ask("the first question " + "x" * 100)
            stub.context = 300
            snapshots = []
            for number in range(4):
                snapshot = await page.ask(f"question {number} " + "y" * 50, snapshot.conversation)
                snapshots.append(snapshot)
            n_tried = len(stub.asked)
            snapshot = await page.ask("one more", snapshot.conversation)
            assert len(stub.asked) <= n_tried + 2, "what was left out once is not tried each time"
            return snapshots

    with Stub() as stub:
        snapshots = asyncio.run(scenario(stub))
    assert all(snapshot.text.startswith(f"stub heard: question {n}") for n, snapshot in enumerate(snapshots))
    assert "the model's context is full: it did not read the 2 oldest messages" in snapshots[0].status
    assert all(body["messages"][0]["role"] == "user" for body in stub.asked)


def test_a_message_that_is_too_long_alone_is_no_dead_end(database):
    async def scenario(stub: Stub) -> list[ReplySnapshot]:
        async with page_over(database, stub.address) as page:
            long = await page.ask("z" * 200)
            return [long, await page.ask("short", long.conversation)]

    with Stub(context=100) as stub:
        long, short = asyncio.run(scenario(stub))
    assert "Your message alone is too long for this model: edit it and make it shorter" in long.status
    assert short.text == "stub heard: short"
    assert "it did not read the oldest message" in short.status


def test_a_shorter_answer_is_asked_for_if_its_length_is_what_does_not_fit(database):
    async def scenario(stub: Stub) -> ReplySnapshot:
        async with page_over(database, stub.address) as page:
            return await page.ask("refuse", max_tokens=512)

    refusal = {"message": "maximum context length is 300 tokens; you asked for 512 in the completion"}
    with Stub(refusal=(400, refusal)) as stub:
        asyncio.run(scenario(stub))
    assert [body["max_tokens"] for body in stub.asked] == [512, 256, 128]


async def continued(page: Page, system: str = "") -> list[ReplySnapshot]:
    """The reply to a request to go on with an answer that was stopped."""
    opened = page.conversations.add_question("ann", "", "recite", system)
    page.conversations.save_answer("ann", opened, "stub", Completion("once ", 2, 0.5, 1.0, STOPPED))
    opened = page.conversations.load("ann", opened.id)
    request = ReplyRequest(opened.id, "stub", system, Settings())
    page.replies.start("ann", request, replace(opened, system=system), continues=True)
    return [snapshot async for snapshot in page.replies.follow("ann", opened.id)]


def test_a_continuation_is_appended_to_the_answer_in_its_own_turn(database):
    async def scenario(stub: Stub) -> tuple[list[ReplySnapshot], list[str]]:
        async with page_over(database, stub.address) as page:
            snapshots = await continued(page)
            turns = page.conversations.load("ann", snapshots[-1].conversation).turns
            return snapshots, [turn.content for turn in turns]

    with Stub() as stub:
        snapshots, stored = asyncio.run(scenario(stub))
    assert (snapshots[0].text, snapshots[0].n_turns_before) == ("once ", 1)
    assert snapshots[-1].text.startswith("once stub heard: Go on exactly")
    assert stored == ["recite", snapshots[-1].text]
    assert [message["role"] for message in stub.asked[0]["messages"]] == ["user", "assistant", "user"]


def test_a_continuation_that_does_not_fit_leaves_the_answer_as_it_was(database):
    async def scenario(stub: Stub) -> ReplySnapshot:
        async with page_over(database, stub.address) as page:
            return (await continued(page))[-1]

    with Stub(context=10) as stub:
        snapshot = asyncio.run(scenario(stub))
    assert "The model cannot go on with this answer; ask something else." in snapshot.status
    assert (snapshot.text, snapshot.turns[-1].content) == ("once ", "once ")


def test_a_reply_goes_on_without_a_window_and_each_window_gets_all_of_it(database):
    async def scenario(stub: Stub) -> None:
        async with page_over(database, stub.address) as page:
            opened = page.conversations.add_question("ann", "", "recite", "")
            page.replies.start("ann", ReplyRequest(opened.id, "stub", "", Settings()), opened)
            cut = page.replies.follow("ann", opened.id)
            assert (await anext(cut)).text == ""
            await cut.aclose()
            assert page.replies.is_running("ann", opened.id)
            both = await asyncio.gather(*(last(page.replies.follow("ann", opened.id)) for _ in range(2)))
            assert [snapshot.text for snapshot in both] == [stub.answers["recite"]] * 2
            assert page.conversations.load("ann", opened.id).turns[-1].content == stub.answers["recite"]
            assert not page.replies.is_running("ann", opened.id)
            assert (await last(page.replies.follow("ann", opened.id))).done, "a window that comes late"
            assert [snapshot async for snapshot in page.replies.follow("bob", opened.id)] == []

    with Stub(delta_seconds=0.02, answers={"recite": " ".join("abcdefghijkl")}) as stub:
        asyncio.run(scenario(stub))


def test_a_reply_that_is_left_is_saved_and_shown_to_nobody(database):
    async def scenario(stub: Stub) -> tuple[list[ReplySnapshot], Completion | None]:
        async with page_over(database, stub.address) as page:
            opened = page.conversations.add_question("ann", "", "count", "")
            page.replies.start("ann", ReplyRequest(opened.id, "stub", "", Settings()), opened)
            snapshots = []
            async for snapshot in page.replies.follow("ann", opened.id):
                snapshots.append(snapshot)
                if snapshot.text:
                    await page.replies.leave("ann", opened.id)
            return snapshots, page.conversations.load("ann", opened.id).turns[-1].completion

    with Stub() as stub:
        snapshots, stored = asyncio.run(scenario(stub))
    assert not any(snapshot.done for snapshot in snapshots)
    assert stored is not None
    assert stored.finish_reason == STOPPED


def test_a_reply_to_a_conversation_that_was_deleted_is_not_an_error(database):
    async def scenario(stub: Stub) -> ReplySnapshot:
        async with page_over(database, stub.address) as page:
            opened = page.conversations.add_question("ann", "", "hello", "")
            page.conversations.delete("ann", opened.id)
            page.replies.start("ann", ReplyRequest(opened.id, "stub", "", Settings()), opened)
            return await last(page.replies.follow("ann", opened.id))

    with Stub() as stub:
        snapshot = asyncio.run(scenario(stub))
    assert snapshot.text == "stub heard: hello"
    assert "⚠" not in snapshot.status
    assert DONE.text not in snapshot.text
