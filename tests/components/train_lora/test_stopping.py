"""Where a run ends before its last step: SIGTERM, the recipe's limits, and checkpoints at time intervals."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState

from components.train_lora import stopping
from components.train_lora.config import TrainConfig
from components.train_lora.history import History
from components.train_lora.stopping import Interrupted, Limits, StopOnSigterm, TimedCheckpoints


def at(step: int, max_steps: int = 10) -> TrainerState:
    return TrainerState(global_step=step, max_steps=max_steps)


def limits(folder: Path, *losses: float, **settings: float) -> Limits:
    history = History(folder / "history.jsonl", None, writes=False)
    for step, loss in enumerate(losses):
        history.add(step=step, eval_loss=loss)
    return Limits(TrainConfig.model_validate(settings), history)


@pytest.mark.parametrize(
    ("settings", "step", "minutes", "reached"),
    [
        ({}, 10, 1e9, None),
        ({"stop_after_fraction": 0.25}, 2, 0, None),
        ({"stop_after_fraction": 0.25}, 3, 0, "stop_after_fraction"),  # 2.5 steps are 3
        ({"stop_after_fraction": 1.0}, 10, 0, None),
        ({"max_train_minutes": 2}, 1, 1.99, None),
        ({"max_train_minutes": 2}, 1, 2.0, "max_train_minutes"),
        ({"max_train_minutes": 2, "stop_after_fraction": 0.1}, 1, 2.0, "stop_after_fraction"),
    ],
)
def test_a_limit_is_reached_by_steps_or_minutes(tmp_path, settings, step, minutes, reached):
    assert limits(tmp_path, **settings).reached(minutes, at(step)) == reached


def test_early_stopping_waits_for_the_patience(tmp_path):
    settings = {"early_stopping_patience": 2, "early_stopping_threshold": 0.1}
    assert limits(tmp_path, 4.0, 3.0, 2.95, **settings).reached(0, at(3)) is None
    assert limits(tmp_path, 4.0, 3.0, 2.95, 2.91, **settings).reached(0, at(3)) == "early_stopping"


def test_a_limit_ends_training_after_a_validation_but_not_after_the_base_s(tmp_path):
    made = limits(tmp_path, 4.0, stop_after_fraction=0.1)
    for step, stops in ((0, False), (1, True)):
        control = TrainerControl()
        made.on_evaluate(None, at(step), control)  # type: ignore[arg-type]
        assert (control.should_save, control.should_training_stop) == (stops, stops)


def test_sigterm_is_a_request_within_the_context_and_the_old_handler_returns_after_it():
    stop = StopOnSigterm()
    previous = signal.getsignal(signal.SIGTERM)
    with stop.handling_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) is previous


def test_a_request_interrupts_only_the_context_that_may_be_interrupted():
    stop = StopOnSigterm()
    with stop.handling_sigterm():
        with pytest.raises(Interrupted), stop.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # outside of it nothing is raised
        entered = False
        with pytest.raises(Interrupted), stop.interruptible():
            entered = True
        assert not entered, "a request that came before interrupts at the beginning"


def test_one_of_several_processes_never_leaves_a_step_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    stop = StopOnSigterm()
    with stop.handling_sigterm(), stop.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested


def test_a_request_saves_and_stops_at_the_end_of_the_step():
    stop = StopOnSigterm()
    for requested in (False, True):
        stop.requested = requested
        control = TrainerControl()
        stop.on_step_end(None, at(1), control)  # type: ignore[arg-type]
        assert (control.should_save, control.should_training_stop) == (requested, requested)


def test_a_request_interrupts_a_backward_pass_between_two_blocks():
    """The handler runs in a hook: without one, Python does not run until the whole backward pass is done."""

    class Blocks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    model, stop = Blocks(), StopOnSigterm()
    stop.make_backward_interruptible(model)
    loss = model(torch.ones(1, 2)).sum()
    loss.register_hook(lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with stop.handling_sigterm(), pytest.raises(Interrupted), stop.interruptible():
        loss.backward()
    assert model.blocks[0].weight.grad is None, "it did not come to the first block"


def test_a_checkpoint_is_due_after_so_many_minutes_since_the_last_one(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    timed = TimedCheckpoints(minutes=0.5)

    def is_due(seconds: float) -> bool:
        now[0] += seconds
        control = TrainerControl()
        timed.on_step_end(None, at(1), control)  # type: ignore[arg-type]
        return control.should_save

    now[0] += 1000  # loading the model does not count
    timed.on_train_begin(None, at(0), TrainerControl())  # type: ignore[arg-type]
    assert not is_due(29)
    assert is_due(1)
    timed.on_save(None, at(1), TrainerControl())  # type: ignore[arg-type]
    assert not is_due(29)
    assert is_due(1)
