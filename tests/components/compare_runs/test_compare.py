"""Sets of losses that compare, equal minutes, and warnings."""

from __future__ import annotations

import pytest

from components.compare_runs.compare import Comparison, compare
from components.compare_runs.config import CompareConfig
from components.errors import ModelError
from tests.components.compare_runs.runs import a_run, compared, only_set, timed


def test_losses_of_other_rows_or_of_another_kind_are_sets_of_their_own():
    comparison = compared(a_run("a", 1.0), a_run("b", 0.5, measured_on="other"), a_run("c", 0.7, loss_kind="test"))
    assert [one.runs for one in comparison.sets] == [["a"], ["b"], ["c"]]
    assert "measured in 3 ways" in comparison.warnings[0]
    assert "lorry report --each-on-each" in comparison.warnings[0]


def test_a_set_is_labelled_by_its_kind_and_data_without_folders():
    runs = [
        a_run("a", 1.0, data="/x/chats.jsonl"),
        a_run("b", 1.0, data="owner/set"),
        a_run("c", 1.0, data="owner/set"),
    ]
    assert only_set(*runs).label == "validation loss, data chats.jsonl; owner/set"


def test_improvements_are_over_the_first_run_that_has_a_loss():
    assert only_set(a_run("none"), a_run("a", 2.0), a_run("b", 1.5)).improvements == {"b": pytest.approx(0.25)}
    assert only_set(a_run("none")).improvements == {}


def test_the_best_run_is_the_first_ranked():
    assert only_set(a_run("a", 1.0), a_run("b", 0.5)).best == "b"
    assert only_set(a_run("a")).best is None


def test_a_stopped_trial_is_in_no_effect():
    early = a_run("early", 1.5, stopped_early=True, settings={"lora_rank": 4})
    assert only_set(a_run("a", 1.0, 0.9, 0.8), early).effects == []
    assert len(only_set(a_run("a", 1.0), a_run("b", 1.5, settings={"lora_rank": 4})).effects) == 1


def test_at_equal_minutes_the_shortest_finished_run_sets_the_time():
    slow, fast = a_run("slow", 1.0, 0.9, 0.5), a_run("fast", 0.8, 0.7)
    assert [one.name for one in only_set(slow, fast).ranking] == ["slow", "fast"]
    early = a_run("early", 0.4, stopped_early=True)
    failed = a_run("failed", 0.4, status="diverged")
    comparison = compared(slow, fast, early, failed, equal_minutes=True)
    assert comparison.config.at_minutes == 2
    (one,) = comparison.sets
    assert [(ranked.name, ranked.loss) for ranked in one.ranking][:2] == [("fast", 0.7), ("slow", 0.9)]


@pytest.mark.parametrize(("minutes", "best"), [(2.0, ("fast", 0.7)), (3.0, ("slow", 0.5))])
def test_at_given_minutes_a_run_counts_up_to_them(minutes, best):
    one = only_set(a_run("slow", 1.0, 0.9, 0.5), a_run("fast", 0.8, 0.7), at_minutes=minutes)
    assert (one.ranking[0].name, one.ranking[0].loss) == best


def test_before_the_first_evaluation_no_run_has_a_loss():
    assert only_set(a_run("a", 1.0), at_minutes=0.5).verdict == "No run has a loss to rank."


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(ModelError, match="no runs to compare"):
        compared()
    with pytest.raises(ModelError, match="two runs are named 'a'"):
        compared(a_run("a", 1.0), a_run("a", 2.0))
    with pytest.raises(ModelError, match="none of the runs has its minutes"):
        compared(a_run("a", 1.0, minutes=None), equal_minutes=True)


def test_minutes_of_different_hardware_are_warned_of():
    (warning,) = compared(a_run("a", 1.0, hardware="1 x T4"), a_run("b", 0.5, hardware="1 x A100")).warnings
    assert "different hardware" in warning
    assert "1 x A100; 1 x T4" in warning
    assert compared(a_run("a", 1.0, hardware="1 x T4"), a_run("b", 0.5)).warnings == []


def test_the_reason_of_a_failed_run_is_a_warning():
    failed = a_run("hot", 9.0, status="diverged", reason="the loss is nan at step 3")
    comparison = compared(a_run("a", 1.0), failed)
    assert comparison.warnings == ["hot: the loss is nan at step 3"]
    assert [one.name for one in comparison.sets[0].ranking] == ["a"]


def test_training_losses_are_warned_of_by_name():
    (warning,) = compared(a_run("a", 1.0, loss_kind="training")).warnings
    assert warning.startswith("a: only training losses are known")


def test_the_choice_takes_losses_that_compare():
    apart = [timed("a", 0.7, 1.0), timed("b", 0.8, 1.0, measured_on="other")]
    assert compared(*apart, max_seconds_per_answer=9).choice.name is None
    assert compared(timed("a", 0.9, 1.0), timed("b", 0.8, 1.0), max_seconds_per_answer=9).choice.name == "b"


def test_losses_of_each_on_each_make_models_of_different_rows_comparable():
    runs = [timed("a", 0.7, 1.0), timed("b", 0.8, 1.0, measured_on="other")]
    matrix = {"a": {"a": 0.7, "b": 1.5}, "b": {"a": 0.9, "b": 0.8}}
    choice = compare(runs, CompareConfig(max_seconds_per_answer=9), matrix).choice
    assert (choice.name, "(0.8500)" in choice.reason) == ("b", True)


def test_a_comparison_is_read_back_from_its_json():
    comparison = compared(a_run("a", 1.0, 0.9, 0.8), a_run("b", 1.5, settings={"lora_rank": 4}))
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
    assert comparison.run("b").settings["lora_rank"] == 4
