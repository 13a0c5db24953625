"""Answers of several models to the same turns."""

from __future__ import annotations

import pytest

from components.compare_runs.side_by_side import answer_speeds, side_by_side
from tests.components.compare_runs.runs import a_run, an_answer


def test_a_column_for_each_model_and_a_row_for_each_turn():
    first = a_run("a", 1.0, answers=[an_answer("tuned"), an_answer("tuned", turn="And?")])
    second = a_run("b", 1.0, answers=[an_answer("tuned", text="other")])
    found = side_by_side([first, second])
    assert found.labels == ["a, tuned", "b, tuned"]
    assert list(found.turns) == [("p", "Hi?"), ("p", "And?")]
    assert {label: answer.text for label, answer in found.turns["p", "Hi?"].items()} == {
        "a, tuned": "Hello", "b, tuned": "other",
    }  # fmt: skip
    assert list(found.turns["p", "And?"]) == ["a, tuned"]


def test_a_base_that_several_runs_share_is_one_column():
    runs = [a_run(name, 1.0, base_model="owner/base", answers=[an_answer("base")]) for name in "ab"]
    other = a_run("c", 1.0, base_model="other", answers=[an_answer("base")])
    assert side_by_side([*runs, other]).labels == ["base, untuned", "other, untuned"]


def test_runs_without_answers_have_no_columns():
    found = side_by_side([a_run("a", 1.0)])
    assert (found.labels, found.turns) == ([], {})
    assert answer_speeds([a_run("a", 1.0)]) == []


def test_speeds_are_means_over_the_answers_of_a_model():
    answers = [
        an_answer("tuned", seconds=1.0, n_tokens=10),
        an_answer("tuned", turn="And?", seconds=3.0, n_tokens=10),
        an_answer("f16", seconds=0.0),
    ]
    tuned, f16 = answer_speeds([a_run("a", 1.0, answers=answers)])
    assert (tuned.label, tuned.n_answers, tuned.seconds_per_answer) == ("a, tuned", 2, 2.0)
    assert tuned.tokens_per_second == pytest.approx(5.0)
    assert f16.seconds_per_answer == 0
