"""The history of a run: entries on disk, what resumes, and what is read from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.train_lora.history import History

NAME = "history.jsonl"


def history(folder: Path, *entries: dict, resumed_from: Path | None = None, writes: bool = True) -> History:
    made = History(folder / NAME, resumed_from, writes=writes)
    for entry in entries:
        made.add(**entry)
    return made


def validations(folder: Path, *losses: float) -> History:
    """A history whose validations, at steps 0, 1, 2 …, have these losses."""
    return history(folder, *({"step": step, "eval_loss": loss} for step, loss in enumerate(losses)))


def test_an_entry_is_on_disk_at_once_as_one_line_of_json(tmp_path):
    made = history(tmp_path, {"step": 1, "loss": 2.5})
    assert (tmp_path / NAME).read_text() == '{"step": 1, "loss": 2.5}\n'
    made.add(step=2, loss=2.0)
    assert [json.loads(line)["step"] for line in (tmp_path / NAME).read_text().splitlines()] == [1, 2]


def test_a_new_run_begins_with_an_empty_file(tmp_path):
    (tmp_path / NAME).write_text('{"step": 9, "loss": 1.0}\n')
    assert history(tmp_path).entries == []
    assert (tmp_path / NAME).read_text() == ""


def test_a_resumed_run_begins_with_the_entries_of_its_checkpoint_and_not_with_later_ones(tmp_path):
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    made = history(tmp_path, {"step": 1, "loss": 2.5})
    made.save(checkpoint)
    made.add(step=2, loss=2.0)
    resumed = history(tmp_path, {"step": 2, "loss": 1.9}, resumed_from=checkpoint)
    assert resumed.entries == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.9}]
    assert (tmp_path / NAME).read_text() == '{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.9}\n'


def test_a_last_line_that_was_cut_by_a_kill_is_left_out(tmp_path):
    (tmp_path / NAME).write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert history(tmp_path, resumed_from=tmp_path, writes=False).entries == [{"step": 1, "loss": 2.5}]


def test_a_process_that_does_not_write_keeps_the_entries_in_memory(tmp_path):
    made = history(tmp_path, {"step": 1, "loss": 2.5}, writes=False)
    assert made.entries == [{"step": 1, "loss": 2.5}]
    assert not (tmp_path / NAME).exists()


def test_the_best_is_the_lowest_finite_loss_after_the_untuned_base(tmp_path):
    assert validations(tmp_path, 1.0).best() is None
    assert validations(tmp_path, 1.0, 3.0, float("nan"), 2.0, 2.5).best() == (3, 2.0)
    assert validations(tmp_path, 1.0, 2.0, 2.0).best() == (1, 2.0), "the first of equal ones"
    assert validations(tmp_path, 1.0, float("inf"), float("nan")).best() is None


def test_losses_are_by_step_with_the_base_at_step_0(tmp_path):
    made = history(tmp_path, {"step": 0, "eval_loss": 4.0}, {"step": 1, "loss": 3.9}, {"step": 1, "eval_loss": 3.0})
    assert made.eval_losses() == {0: 4.0, 1: 3.0}


def test_tokens_per_second_weigh_steps_by_their_tokens(tmp_path):
    made = history(
        tmp_path,
        {"step": 1, "tokens": 100.0, "tokens_per_second": 100.0},
        {"step": 2, "tokens": 300.0, "tokens_per_second": 50.0},
        {"step": 2, "eval_loss": 1.0},
    )
    assert made.tokens_per_second() == pytest.approx(400 / 7, abs=0.05)
    assert validations(tmp_path, 1.0).tokens_per_second() == 0.0


def test_minutes_are_those_of_the_last_step(tmp_path):
    assert history(tmp_path).minutes() == 0.0
    entries = ({"step": 1, "minutes": 0.5}, {"step": 2, "minutes": 1.25}, {"step": 2, "eval_loss": 1.0})
    assert history(tmp_path, *entries).minutes() == 1.25


@pytest.mark.parametrize(
    ("losses", "threshold", "n"),
    [
        ((), 0.0, 0),
        ((4.0,), 0.0, 0),
        ((4.0, 3.0, 2.0), 0.0, 0),
        ((4.0, 3.0, 3.0, 3.5), 0.0, 2),
        ((4.0, 3.0, 3.5, 2.9), 0.0, 0),
        ((4.0, 3.0, 2.9, 2.8), 0.15, 2),  # each is lower than the one before, none by more than the threshold
        ((4.0, float("nan"), float("nan")), 0.0, 2),
    ],
)
def test_validations_without_improvement_are_counted_since_the_last_one(tmp_path, losses, threshold, n):
    assert validations(tmp_path, *losses).validations_without_improvement(threshold) == n


@pytest.mark.parametrize(
    ("norms", "has_stopped"),
    [((0.0, 0.0), True), ((0.0, 0.1), False), ((0.1, 0.1), False), ((), False), ((None, 0.0), False)],
)
def test_learning_has_stopped_when_all_gradients_since_the_validation_before_are_zero(tmp_path, norms, has_stopped):
    made = validations(tmp_path, 4.0, 3.0)
    for step, norm in enumerate(norms, start=2):
        made.add(step=step, loss=3.0, grad_norm=norm)
    made.add(step=4, eval_loss=3.0)
    assert made.has_stopped_learning() is has_stopped


def test_learning_has_not_stopped_before_the_second_validation(tmp_path):
    assert not history(
        tmp_path, {"step": 1, "loss": 1.0, "grad_norm": 0.0}, {"step": 1, "eval_loss": 1.0}
    ).has_stopped_learning()
