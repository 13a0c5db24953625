"""Snapshots of answers as JSON for the page's script."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from components.chat.ui.live_updates import LiveUpdates
from tests.components.chat.helpers import last


def test_a_reply_runs_and_then_ends_with_its_figures(view):
    async def scenario() -> list[dict[str, Any]]:
        started = await view.call(view.chat.question, "submit", "q", "", *view.chosen())
        updates = LiveUpdates(view.replies, view.running_comparisons)
        return [snapshot async for snapshot in updates.reply("ann", started[view.chat.conversation])]

    *running, end = asyncio.run(scenario())
    assert all('data-state="running"' in snapshot["state_css"] and "relist" not in snapshot for snapshot in running)
    assert 'data-state="idle"' in end["state_css"]
    assert "1 token" in end["state_css"]
    assert (end["text"], end["n_turns"], end["done"], end["relist"]) == ("yes", 1, True, False)
    assert json.loads(json.dumps(end)) == end


def test_a_reply_that_failed_before_its_first_word_ends_idle(view):
    async def scenario() -> dict[str, Any]:
        view.api.models = TimeoutError()
        started = await view.call(view.chat.question, "submit", "q", "", *view.chosen(model="gone"))
        updates = LiveUpdates(view.replies, view.running_comparisons)
        return await last(updates.reply("ann", started[view.chat.conversation]))

    end = asyncio.run(scenario())
    assert 'data-state="idle"' in end["state_css"]
    assert (end["text"], end["relist"]) == ("", True)
    assert "Is it running?" in end["status"]


def test_a_comparison_has_its_texts_by_letter_and_nobody_elses(view):
    async def scenario() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        models = await view.servers.models()
        name = view.running_comparisons.start("ann", models, "q", "", None, blind=False)
        updates = LiveUpdates(view.replies, view.running_comparisons)
        return await last(updates.comparison("ann", name)), [one async for one in updates.comparison("bob", name)]

    end, others = asyncio.run(scenario())
    assert (end["letters"], end["A"], end["B"], end["done"]) == (["A", "B"], "yes", "yes", True)
    assert end["headings"]["B"].startswith("**B** · **two** · 1 token")
    assert others == []
