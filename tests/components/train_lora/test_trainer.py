"""Parts of the trainer that a whole run seldom reaches: divergence, random state, outdated best weights."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from components.artifacts.contracts import HISTORY_NAME
from components.errors import DivergedError, OutOfMemoryError
from components.train_lora.failure import figures_of_failed, write_failed
from components.train_lora.history import History
from components.train_lora.trainer import LoraTrainer, RandomState
from tests.components.artifacts.test_run_record import RECORD


def history(folder: Path, *losses: float, grad_norm: float = 1.0) -> History:
    """Validations at steps 0, 1, 2 …, with a training step before each but the first."""
    made = History(folder / HISTORY_NAME, None, writes=True)
    for step, loss in enumerate(losses):
        if step:
            made.add(step=step, loss=loss, grad_norm=grad_norm, minutes=0.1 * step, tokens=10, tokens_per_second=5.0)
        made.add(step=step, eval_loss=loss)
    return made


def check(made: History) -> None:
    """The check of the last validation."""
    step, loss = list(made.eval_losses().items())[-1]
    LoraTrainer._require_converging(SimpleNamespace(history=made), step, loss)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "losses",
    [
        (4.0,),
        (4.0, 3.0, 2.0),
        (4.0, 7.9),  # higher than the base's, but not twice as high
        (4.0, 3.9, 100.0),  # it was below the base's before
    ],
)
def test_a_run_that_may_still_converge_goes_on(tmp_path, losses):
    check(history(tmp_path, *losses))


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (
            (4.0, float("nan")),
            r"the validation loss is nan at step 1, that of the untuned base is 4; lower train\.learn",
        ),
        ((float("inf"),), r"the validation loss is inf at step 0"),
        ((4.0, 8.1), r"the validation loss is 8\.1 at step 1, that of the untuned base is 4; lower"),
        ((4.0, 5.0, 8.1), r"8\.1 at step 2"),
    ],
)
def test_a_diverged_run_ends_with_the_loss_the_step_and_what_to_lower(tmp_path, losses, words):
    with pytest.raises(DivergedError, match=words):
        check(history(tmp_path, *losses))


def test_a_run_without_gradients_ends(tmp_path):
    made = history(tmp_path, 4.0, 3.0, 3.0, grad_norm=0.0)
    with pytest.raises(DivergedError, match=r"3 at step 2, .* and every gradient since the last validation is zero"):
        check(made)


def drawn() -> tuple[Any, ...]:
    return random.random(), np.random.random(), torch.rand(1).item()


def test_the_random_state_of_the_last_step_is_restored():
    saved = RandomState()
    assert saved.saved is None
    saved.on_step_end(None, None, None)  # type: ignore[arg-type]
    first = drawn()
    assert drawn() != first
    saved.restore()
    assert drawn() == first


@pytest.mark.parametrize(
    ("error", "status"), [(DivergedError("lower it"), "diverged"), (OutOfMemoryError("lower it"), "out_of_memory")]
)
def test_a_failed_run_has_a_record_of_what_was_measured(tmp_path, error, status):
    run_dir, adapter = tmp_path / "run", tmp_path / "adapter"
    run_dir.mkdir()
    history(run_dir, 4.0, 3.0, 5.0)
    figures = figures_of_failed(error, run_dir)
    assert (figures["status"], figures["reason"], figures["stopped_by"]) == (status, "lower it", None)
    assert (figures["steps"], figures["adapter_step"], figures["max_steps"]) == (2, 2, None)
    assert (figures["base_eval_loss"], figures["best_eval_loss"], figures["best_step"]) == (4.0, 3.0, 1)
    assert (figures["final_eval_loss"], figures["tokens_per_second"]) == (None, 5.0)
    write_failed(RECORD.model_copy(update=figures), run_dir, adapter)
    assert {path.name for path in adapter.iterdir()} == {"run.json", HISTORY_NAME}


def test_a_run_that_failed_before_its_first_measurement_has_a_record_too(tmp_path):
    figures = figures_of_failed(OutOfMemoryError("lower it"), tmp_path)
    assert (figures["steps"], figures["base_eval_loss"], figures["best_step"], figures["minutes"]) == (0, None, None, 0)
    write_failed(RECORD.model_copy(update=figures), tmp_path / "nowhere", tmp_path / "adapter")
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["run.json"]


def test_best_weights_that_no_history_names_are_removed(tmp_path):
    """The run's own history and those of its checkpoints count: a resumed run may need an earlier best."""
    own = history(tmp_path, 4.0, 3.0, 2.0)
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / HISTORY_NAME).write_text('{"step": 1, "eval_loss": 3.0}\n')
    for step in (1, 2, 9):
        (tmp_path / f"best-{step}").mkdir()
    LoraTrainer._remove_outdated_bests(SimpleNamespace(run_dir=tmp_path, history=own))  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-1", "best-2"]
