"""The outcome of each row: exact duplicates, near-duplicates, perplexity and the split."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import DataError
from components.split_data import assignments as module
from components.split_data.assignments import (
    UNDECIDED,
    Assignments,
    assign_splits,
    drop_by_perplexity,
    drop_exact_duplicates,
    group_near_duplicates,
)
from components.split_data.outcomes import OUTCOMES
from tests.components.split_data.corpora import assigned, batch_of, config_of, corpus_of, prose, talk, with_changes
from tests.conftest import chat
from tests.properties import quick


def undecided(folder: Any, values: list[Any], **settings: Any) -> Assignments:
    return Assignments(corpus_of(folder, [batch_of(values)], **settings))


def outcomes(assignments: Assignments) -> list[str]:
    return [OUTCOMES[outcome] if outcome != UNDECIDED else "" for outcome in assignments.outcome.tolist()]


def test_at_first_no_row_has_an_outcome_and_every_row_is_its_own_group(tmp_path):
    own = undecided(tmp_path, [talk(1), talk(2)])
    assert own.undecided_rows().tolist() == [0, 1]
    assert own.groups.tolist() == [0, 1]


def test_a_dropped_row_has_its_reason(tmp_path):
    own = undecided(tmp_path, [talk(1), talk(2)])
    own.drop(1, "kind", "reason")
    assert (outcomes(own), own.reasons, own.undecided_rows().tolist()) == (
        ["", "dropped"], {1: ("kind", "reason")}, [0],
    )  # fmt: skip


def test_each_exact_duplicate_is_dropped_but_the_first(tmp_path):
    own = undecided(tmp_path, [talk(1), chat("Ask", "this"), chat("ask", " THIS"), chat("ask", "this ")])
    drop_exact_duplicates(own)
    assert outcomes(own) == ["", "", "dropped", "dropped"]
    assert set(own.reasons.values()) == {("exact duplicate", "the same conversation as line 2")}


def test_near_duplicates_are_one_group_by_its_first_row(tmp_path):
    rows = [talk(1), talk(2), with_changes(talk(1), 3), with_changes(talk(2), 2)]
    own = undecided(tmp_path, rows)
    group_near_duplicates(own, config_of())
    assert own.groups.tolist() == [0, 1, 0, 1]
    assert outcomes(own) == [""] * 4


def test_rows_that_were_dropped_are_in_no_group(tmp_path):
    own = undecided(tmp_path, [talk(1), talk(2), with_changes(talk(1), 3)])
    own.drop(0, "kind", "reason")
    group_near_duplicates(own, config_of())
    assert own.groups.tolist() == [0, 1, 2]


def test_near_duplicates_are_dropped_with_the_share_that_is_the_same(tmp_path):
    settings = {"duplicates": {"near": "drop"}}
    own = undecided(tmp_path, [talk(1), with_changes(talk(1), 3)], **settings)
    group_near_duplicates(own, config_of(**settings))
    # 3 of 60 words, and with them 3 of 58 shingles, are others: 55 of 61 are common.
    assert own.reasons == {1: ("near-duplicate", "90 % the same as line 1")}


def test_a_row_is_dropped_for_the_most_similar_row_that_is_kept(tmp_path):
    settings = {"duplicates": {"near": "drop"}}
    first = talk(1)
    rows = [first, with_changes(first, 6), with_changes(first, 12), with_changes(first, 1)]
    own = undecided(tmp_path, rows, **settings)
    group_near_duplicates(own, config_of(**settings))
    # The third row is similar to the second, which is dropped, and not to the first.
    assert sorted(own.reasons) == [1, 3]
    assert own.reasons[3][1].endswith("the same as line 1")


@pytest.mark.parametrize("settings", [{"near": "keep"}, {"jaccard_threshold": 0.95}])
def test_near_duplicates_are_not_grouped_where_the_recipe_says(tmp_path, settings):
    own = undecided(tmp_path, [talk(1), with_changes(talk(1), 3)], duplicates=settings)
    group_near_duplicates(own, config_of(duplicates=settings))
    assert own.groups.tolist() == [0, 1]


BASE = {"address": "base", "revision": "abc", "weight_bytes": 0}


@pytest.fixture
def perplexities(monkeypatch) -> list[float]:
    """The perplexities of the rows; the base model itself is in the tests of the whole split."""
    values: list[float] = []
    monkeypatch.setattr(module, "perplexities", lambda base, rows: values[: len(rows)])
    return values


def test_rows_outside_the_bounds_of_perplexity_are_dropped(tmp_path, perplexities):
    perplexities += [1.5, 2.0, 30.0, 30.1]
    own = undecided(tmp_path, [talk(seed) for seed in range(4)])
    drop_by_perplexity(own, config_of(base_model=BASE, quality={"min_perplexity": 2, "max_perplexity": 30}))
    assert own.reasons == {
        0: ("perplexity too low", "perplexity 1.50, below min_perplexity 2"),
        3: ("perplexity too high", "perplexity 30.1, above max_perplexity 30"),
    }


def test_the_perplexity_of_dropped_rows_is_not_measured(tmp_path, perplexities):
    perplexities += [1.0]
    own = undecided(tmp_path, [talk(1), talk(2)])
    own.drop(0, "kind", "reason")
    drop_by_perplexity(own, config_of(base_model=BASE, quality={"min_perplexity": 2}))
    assert own.reasons[1][0] == "perplexity too low"


def test_every_row_has_an_outcome_and_the_counts_are_those_asked_for(tmp_path):
    own = assigned(tmp_path, [talk(seed) for seed in range(12)], train_rows=5, validation_rows=3, test_rows=2)
    assert sorted(outcomes(own)) == ["test"] * 2 + ["train"] * 5 + ["unused"] * 2 + ["validation"] * 3


def test_too_few_rows_are_an_error_with_the_sizes(tmp_path):
    rows = [*[talk(seed) for seed in range(4)], {}]
    facts = r"asks for 15 rows \(train 10, validation 3, test 2\), but only 4 of 5 rows can be used"
    with pytest.raises(DataError, match=facts):
        assigned(tmp_path, rows, train_rows=10, validation_rows=3, test_rows=2)
    with pytest.raises(DataError, match=r"asks for 5 rows \(train at least 1, validation 4, test 0\)"):
        assigned(tmp_path, rows, validation_rows=4)


def test_a_row_that_the_weights_leave_out_is_unused_with_the_reason(tmp_path):
    sources = [{"data": "a.jsonl", "weight": 1}, {"data": "b.jsonl", "weight": 1}]
    batches = [
        batch_of([talk(seed) for seed in range(3)], file="a.jsonl"),
        batch_of([talk(seed) for seed in range(3, 9)], file="b.jsonl", source=1),
    ]
    own = Assignments(corpus_of(tmp_path, batches, data=None, sources=sources))
    assign_splits(own, config_of(data=None, sources=sources), "a.jsonl + b.jsonl")
    unused = np.flatnonzero(own.outcome == OUTCOMES.index("unused"))
    assert len(unused) == 3
    assert own.corpus.source_of[unused].tolist() == [1, 1, 1]
    assert {own.reasons[row] for row in unused.tolist()} == {("weight", "the source's weight leaves it out")}


def test_a_split_that_no_group_fits_is_smaller_with_a_warning(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    rows = [talk(1), with_changes(talk(1), 1), talk(2), with_changes(talk(2), 1), talk(3)]
    own = assigned(tmp_path, rows, validation_rows=4)
    assert outcomes(own).count("validation") in (3, 4)
    own = assigned(tmp_path, rows[:4], validation_rows=3)
    assert outcomes(own).count("validation") == 2
    assert "validation has 2 rows, not 3" in caplog.text


def test_row_outcomes_are_in_the_order_of_the_lines_with_their_groups(tmp_path):
    rows = [talk(1), {"no": 1}, with_changes(talk(1), 1), talk(2), talk(1), talk(3)]
    found = list(assigned(tmp_path, rows).row_outcomes())
    assert [row.line for row in found] == [1, 2, 3, 4, 5, 6]
    assert [row.group for row in found] == ["line 1", "", "line 1", "", "", ""]
    assert (found[1].outcome, found[1].kind, found[1].id) == ("dropped", "cannot be used", "")
    assert (found[4].outcome, found[4].kind) == ("dropped", "exact duplicate")
    assert all(row.id for row in found if row.line != 2)


# A row, a copy of it in other case, or a near-duplicate.
variants = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["row", "copy", "near"])), min_size=1, max_size=24)


def variant(seed: int, kind: str) -> Any:
    if kind == "near":
        return with_changes(talk(seed), 1)
    return talk(seed) if kind == "row" else chat(*(turn["content"].upper() for turn in talk(seed)["messages"]))


FILL = [chat(" ".join(prose(9, 100 + i)), " ".join(prose(9, 200 + i))) for i in range(12)]


@quick
@given(variants, st.integers(0, 2))
def test_equal_rows_are_kept_once_and_near_duplicates_share_their_split(tmp_path_factory, drawn, seed):
    rows = [variant(*one) for one in drawn] + FILL
    own = assigned(tmp_path_factory.mktemp("rows"), rows, validation_rows=4, test_rows=4, seed=seed)
    found = list(own.row_outcomes())
    assert len(found) == len(rows)
    splits: dict[int, set[str]] = {}
    kept: dict[tuple[int, bool], int] = {}
    for (number, kind), row in zip(drawn, found, strict=False):
        if row.outcome == "dropped":
            assert row.kind == "exact duplicate"
        else:
            splits.setdefault(number, set()).add(row.outcome)
            kept[number, kind == "near"] = kept.get((number, kind == "near"), 0) + 1
    assert set(kept.values()) == {1}
    assert all(len(names) == 1 for names in splits.values())


@quick
@given(st.permutations(range(30)))
def test_the_order_of_the_rows_does_not_change_their_splits(tmp_path_factory, order):
    rows = [with_changes(talk(i // 2), 1) if i % 2 else talk(i // 2) for i in range(30)]
    splits = []
    for number in (range(30), order):
        folder = tmp_path_factory.mktemp("rows")
        own = assigned(folder, [rows[i] for i in number], validation_rows=6, test_rows=4)
        splits.append({row.id: row.outcome for row in own.row_outcomes()})
    assert splits[0] == splits[1]
