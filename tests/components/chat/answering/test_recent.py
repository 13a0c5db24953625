"""Answers are remembered while they run, and for some time after."""

from __future__ import annotations

from dataclasses import dataclass

from components.chat.answering.recent import Recent


@dataclass
class Ending:
    ended: float | None = None


def test_what_ended_long_ago_is_dropped_and_what_runs_is_not():
    now = 0.0
    recent: Recent[Ending] = Recent(60.0, lambda: now)
    runs, ended = Ending(), Ending(ended=0.0)
    recent.add("ann", "runs", runs)
    recent.add("ann", "ended", ended)
    now = 59.0
    recent.add("ann", "other", Ending())
    assert recent.get("ann", "ended") is ended
    now = 61.0
    recent.add("ann", "another", Ending())
    assert recent.get("ann", "ended") is None
    assert recent.get("ann", "runs") is runs


def test_a_name_belongs_to_its_user_and_the_last_item_of_a_name_counts():
    recent: Recent[Ending] = Recent(60.0)
    first, second = Ending(), Ending()
    recent.add("ann", "x", first)
    recent.add("bob", "x", second)
    assert recent.get("ann", "x") is first
    recent.add("ann", "x", second)
    assert recent.get("ann", "x") is second
    assert recent.get("eve", "x") is None
