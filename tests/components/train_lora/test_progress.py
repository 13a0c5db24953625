"""The progress of a run: its history entries, its log lines, where it stops, its TensorBoard files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboardX import SummaryWriter
from transformers import TrainerControl, TrainerState

from components.errors import DivergedError
from components.train_lora import progress as progress_module
from components.train_lora.config import TrainConfig
from components.train_lora.history import History
from components.train_lora.progress import TENSORBOARD, Tensorboard, TrainingProgress
from components.train_lora.stopping import Limits


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress_module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def progress(folder: Path, *, minutes_before: float = 0.0, logging_steps: int = 1, **settings: float):
    history = History(folder / "history.jsonl", None, writes=False)
    if minutes_before:
        history.add(step=1, minutes=minutes_before)
    limits = Limits(TrainConfig.model_validate(settings), history)
    return TrainingProgress(history, limits, logging_steps)


def at(step: int, max_steps: int = 10) -> TrainerState:
    return TrainerState(global_step=step, max_steps=max_steps)


def step(
    made: TrainingProgress, clock: Clock, number: int, *, seconds: float, tokens: float, loss: float = 2.0
) -> None:
    """One step of ``seconds``; ``tokens`` are TRL's count since the beginning."""
    made.on_step_begin(None, at(number - 1), TrainerControl())  # type: ignore[arg-type]
    clock.now += seconds
    logs = {"loss": loss, "num_tokens": tokens, "learning_rate": 1e-4, "grad_norm": 0.5}
    made.on_log(None, at(number), TrainerControl(), logs)  # type: ignore[arg-type]


def test_an_entry_has_the_tokens_of_its_step_and_their_rate(tmp_path, clock):
    made = progress(tmp_path)
    made.on_train_begin(None, at(0), TrainerControl())
    step(made, clock, 1, seconds=2, tokens=100)
    step(made, clock, 2, seconds=4, tokens=500)
    first, second = made.history.entries
    assert (first["step"], first["tokens"], first["tokens_per_second"]) == (1, 100.0, 50.0)
    assert (second["step"], second["tokens"], second["tokens_per_second"]) == (2, 400.0, 100.0)
    assert second["minutes"] == pytest.approx(0.1)
    assert (second["loss"], second["learning_rate"], second["grad_norm"]) == (2.0, 1e-4, 0.5)


def test_a_line_has_the_mean_rate_since_the_last_one_and_the_time_that_is_left(tmp_path, clock, caplog):
    caplog.set_level("INFO")
    made = progress(tmp_path, logging_steps=2)
    made.on_train_begin(None, at(0), TrainerControl())
    step(made, clock, 1, seconds=1, tokens=100)
    assert caplog.messages == []
    step(made, clock, 2, seconds=3, tokens=500)
    assert caplog.messages == ["step 2/10 loss 2.0000 tokens/s 125 left 16 s"]


def test_the_last_step_has_a_line_whatever_the_interval(tmp_path, clock, caplog):
    caplog.set_level("INFO")
    made = progress(tmp_path, logging_steps=100)
    made.on_train_begin(None, at(9), TrainerControl())
    step(made, clock, 10, seconds=1, tokens=10)
    assert caplog.messages == ["step 10/10 loss 2.0000 tokens/s 10 left 0 s"]


def test_the_time_left_of_a_resumed_run_counts_its_own_steps_and_ends_at_the_limit_of_minutes(tmp_path, clock, caplog):
    caplog.set_level("INFO")
    made = progress(tmp_path, minutes_before=1.0, max_train_minutes=1.75)
    made.on_train_begin(None, at(5), TrainerControl())
    step(made, clock, 6, seconds=15, tokens=10)
    assert made.minutes() == 1.25
    assert caplog.messages[-1].endswith("left 30 s"), "four steps take 60 s, and 30 s of the minutes are left"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_training_with_what_to_lower(tmp_path, clock, loss):
    made = progress(tmp_path)
    made.on_train_begin(None, at(0), TrainerControl())
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at step 1; lower train.learning_rate, or"):
        step(made, clock, 1, seconds=1, tokens=1, loss=loss)


def test_a_log_without_a_loss_is_no_step(tmp_path, clock):
    made = progress(tmp_path)
    made.on_log(None, at(1), TrainerControl(), {"train_runtime": 1.0})
    assert made.history.entries == []


@pytest.mark.parametrize(
    ("settings", "number", "seconds", "ends"),
    [
        ({}, 9, 0, False),
        ({}, 10, 0, True),
        ({"stop_after_fraction": 0.5}, 4, 0, False),
        ({"stop_after_fraction": 0.5}, 5, 0, True),
        ({"max_train_minutes": 1}, 2, 59, False),
        ({"max_train_minutes": 1}, 2, 60, True),
    ],
)
def test_a_run_ends_with_a_validation_and_a_checkpoint(tmp_path, clock, settings, number, seconds, ends):
    made = progress(tmp_path, **settings)
    made.on_train_begin(None, at(0), TrainerControl())
    clock.now += seconds
    control = TrainerControl()
    made.on_step_end(None, at(number), control)
    assert [control.should_evaluate, control.should_save, control.should_training_stop] == [ends] * 3


def test_tensorboard_files_hold_the_figures_by_step(tmp_path, monkeypatch):
    written: list[tuple[str, float, int]] = []
    monkeypatch.setattr(SummaryWriter, "add_scalar", lambda _, *scalar: written.append(scalar))
    made = Tensorboard(tmp_path)
    logs = {"loss": 2.0, "learning_rate": 1e-4, "grad_norm": 0.5, "num_tokens": 9.0}
    made.on_log(None, at(1), TrainerControl(), logs)  # type: ignore[arg-type]
    made.on_evaluate(None, at(2), TrainerControl(), {"eval_loss": 1.5})  # type: ignore[arg-type]
    made.on_train_end(None, at(2), TrainerControl())  # type: ignore[arg-type]
    assert written == [
        ("train/loss", 2.0, 1), ("train/learning_rate", 1e-4, 1), ("train/grad_norm", 0.5, 1), ("eval/loss", 1.5, 2),
    ]  # fmt: skip
    assert list((tmp_path / TENSORBOARD).iterdir())
