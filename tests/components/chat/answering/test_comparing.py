"""Comparisons that run: what a window is sent, and what is stored."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from components.chat.answering.comparing import FAILED, ComparisonSnapshot, RunningComparisons
from components.chat.client.settings import Settings
from components.chat.storage.comparisons import Comparisons
from tests.components.chat.helpers import last, page_over
from tests.openai_stub import Stub


@pytest.mark.parametrize("blind", [True, False])
def test_nothing_that_is_sent_before_a_blind_vote_identifies_a_model(database, blind):
    async def scenario(one: Stub, two: Stub) -> list[ComparisonSnapshot]:
        async with page_over(database, one.address, two.address) as page:
            running = RunningComparisons(Comparisons(database), page.running)
            models = await page.servers.models()
            name = running.start("ann", models, "half", "", None, blind=blind)
            return [snapshot async for snapshot in running.follow("ann", name)]

    with Stub("alpha", refuses={"half"}) as one, Stub("omega", answers={"half": "all of it"}) as two:
        snapshots = asyncio.run(scenario(one, two))
    assert snapshots[-1].done
    texts = set(snapshots[-1].texts.values())
    assert "all of it" in texts
    assert (f"⚠ {FAILED}" in texts) == blind
    sent = str(snapshots)
    identifying = [word for word in ("alpha", "omega", "tokens/s", "first token", "refuses") if word in sent]
    assert (identifying == []) == blind
    assert (Comparisons(database).standings() == {}) == blind


def test_each_model_is_asked_with_its_own_defaults_or_all_with_the_same(database):
    async def scenario(stub: Stub) -> None:
        async with page_over(database, stub.address) as page:
            running = RunningComparisons(Comparisons(database), page.running)
            models = await page.servers.models()
            for settings in (None, Settings(0.3, 32)):
                name = running.start("ann", models, "q", "Be kind.", settings, blind=False)
                await last(running.follow("ann", name))

    with Stub(meta={"default_generation_settings": {"temperature": 0.6, "max_tokens": 128}}) as stub:
        asyncio.run(scenario(stub))
    assert [(body["temperature"], body["max_tokens"]) for body in stub.asked] == [(0.6, 128), (0.3, 32)]
    assert [message["role"] for message in stub.asked[0]["messages"]] == ["system", "user"]


def test_a_comparison_that_is_stopped_can_be_voted_on_by_its_user_only(database):
    async def scenario(stub: Stub) -> tuple[str, ComparisonSnapshot]:
        async with page_over(database, stub.address) as page:
            running = RunningComparisons(Comparisons(database), page.running)
            models = await page.servers.models()
            name = running.start("ann", models * 2, "count", "", None, blind=False)
            assert [snapshot async for snapshot in running.follow("bob", name)] == []
            async for snapshot in running.follow("ann", name):
                running.stop("bob", name)
                if all(text != "…" for text in snapshot.texts.values()):
                    running.stop("ann", name)
            return name, snapshot

    with Stub() as stub:
        name, snapshot = asyncio.run(scenario(stub))
    assert all("stopped" in heading for heading in snapshot.headings.values())
    answers = Comparisons(database).vote("ann", name, "A")
    assert {letter: completion.text for letter, (_, completion) in answers.items()} == snapshot.texts


def test_a_comparison_that_cannot_be_stored_says_so(database):
    class Failing(Comparisons):
        def save(self, *_args: object, **_options: object) -> None:
            raise sqlite3.OperationalError("disk full")

    async def scenario(stub: Stub) -> ComparisonSnapshot:
        async with page_over(database, stub.address) as page:
            running = RunningComparisons(Failing(database), page.running)
            name = running.start("ann", await page.servers.models(), "q", "", None, blind=True)
            return await last(running.follow("ann", name))

    with Stub() as stub:
        snapshot = asyncio.run(scenario(stub))
    assert snapshot.status == "⚠ This comparison cannot be saved: disk full"
    assert snapshot.texts == {"A": "stub heard: q"}


def test_a_comparison_that_runs_when_the_page_ends_is_saved(database):
    async def scenario(stub: Stub) -> str:
        async with page_over(database, stub.address) as page:
            running = RunningComparisons(Comparisons(database), page.running)
            models = await page.servers.models()
            name = running.start("ann", models * 2, "count", "", None, blind=False)
            async for snapshot in running.follow("ann", name):
                if all(snapshot.texts.values()):
                    break
            await page.running.close()
            await running.close()
            return name

    with Stub() as stub:
        name = asyncio.run(scenario(stub))
    with database.transaction() as connection:
        (n_candidates,) = connection.execute("SELECT count(*) FROM candidate WHERE comparison = ?", (name,)).fetchone()
    assert n_candidates == 2
