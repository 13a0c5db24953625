"""The table of votes."""

from __future__ import annotations

import re

from components.chat.storage.comparisons import Comparisons
from components.chat.storage.completion import Completion
from components.chat.ui.votes_view import HEADINGS, votes_table

SLOW, FAST = Completion("a", 3, 0.2, 1.2, "stop"), Completion("b", 3, 0.1, 0.6, "stop")


def cells(table: str) -> list[list[str]]:
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)][1:]


def test_before_any_comparison_there_is_no_table(database):
    assert votes_table(Comparisons(database)) == "<p>No comparison yet.</p>"


def test_each_model_has_a_row_with_its_votes_and_medians_the_best_first(database):
    comparisons = Comparisons(database)
    comparisons.save("ann", "1", "q", "", {"A": ("base", SLOW), "B": ("<tuned>", FAST)}, blind=True)
    comparisons.vote("ann", "1", "B")
    table = votes_table(comparisons)
    assert cells(table) == [
        ["&lt;tuned&gt;", "1", "0", "0", "100 %", "0.1 s", "0.6 s", "4 tokens/s"],
        ["base", "0", "1", "0", "0 %", "0.2 s", "1.2 s", "2 tokens/s"],
    ]
    assert all(f"<th>{heading}</th>" in table for heading in HEADINGS)


def test_what_is_not_known_is_a_dash(database):
    comparisons = Comparisons(database)
    comparisons.save("ann", "1", "q", "", {"A": ("base", Completion())}, blind=False)
    assert cells(votes_table(comparisons)) == [["base", "0", "0", "0", "-", "-", "-", "-"]]
