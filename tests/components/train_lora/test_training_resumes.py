"""Runs that are killed, stopped, starved of disk, disturbed by another, and come back to the same bytes."""

from __future__ import annotations

import errno
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.run_record import read_record
from components.errors import BusyError, DiskSpaceError, InterruptedTrainingError, ModelError
from components.train_lora import checkpoints
from components.train_lora.stopping import Interrupted
from components.train_lora.trainer import LoraTrainer
from tests.components.train_lora.training import losses, run, start_training, wait_for, weights
from tests.conftest import ROOT

# Long enough for every kill to find it at work.
LONG = {"max_steps": 500, "save_steps": 3, "eval_steps": 25, "lora_dropout": 0.1, "lr_scheduler_type": "cosine"}


def kill_at_random(base: Any, rows: Path, folder: Path, n_kills: int, chance: random.Random, **settings: Any) -> None:
    """Start training ``n_kills`` times and kill it; the second time inside the write of a checkpoint."""
    for kill in range(n_kills):
        child = start_training(base, rows, folder, **settings)
        if kill == 1:
            wait_for(folder, f"checkpoints/*/{checkpoints.STAGING}/checkpoint-*/*", child)
        elif kill % 5 == 4:
            time.sleep(chance.uniform(0, 8))  # also before the first step
        else:
            wait_for(folder, "checkpoints/*/writer.json", child)
            began = list(folder.glob("checkpoints/*/checkpoint-*"))
            while list(folder.glob("checkpoints/*/checkpoint-*")) == began and child.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 1))
        assert child.poll() is None, f"kill {kill}: training ended before: {child.stderr and child.stderr.read()}"
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if kill == 1:
            assert list(folder.glob(f"checkpoints/*/{checkpoints.STAGING}/checkpoint-*"))
    assert not (folder / "adapter" / "run.json").exists()


def killed_and_undisturbed(base: Any, rows: Path, folder: Path, n_kills: int, seed: int, **settings: Any) -> None:
    kill_at_random(base, rows, folder / "killed", n_kills, random.Random(seed), **settings)
    run(base, rows, folder / "killed", **settings)
    run(base, rows, folder / "undisturbed", **settings)
    assert losses(folder / "killed") == losses(folder / "undisturbed")
    assert weights(folder / "killed") == weights(folder / "undisturbed")


def test_three_kills_at_random_moments_leave_losses_and_bytes_as_they_would_be(base, rows, tmp_path):
    killed_and_undisturbed(base, rows, tmp_path, 3, seed=0, **{**LONG, "max_steps": 150})


@pytest.mark.slow
def test_25_kills_at_random_moments_leave_losses_and_bytes_as_they_would_be(base, rows, tmp_path):
    killed_and_undisturbed(base, rows, tmp_path, 25, seed=random.randrange(1000), **LONG)


@pytest.mark.slow
def test_25_kills_of_a_packed_run_on_a_4_bit_base_leave_losses_and_bytes_as_they_would_be(base, rows, tmp_path):
    settings = {
        **LONG,
        "packing": True,
        "max_length": 256,
        "per_device_train_batch_size": 1,
        "base_quantization": "nf4",
    }
    killed_and_undisturbed(base, rows, tmp_path, 25, seed=random.randrange(1000), **settings)


def test_a_second_run_of_the_same_recipe_says_that_the_first_is_training(base, rows, tmp_path, undisturbed):
    key = read_record(str(undisturbed / "adapter")).run_key
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path / "checkpoints" / key)], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError, match=rf"another run \(process {holder.pid}\) is training this very recipe"):
            run(base, rows, tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    run(base, rows, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)


HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from components.train_lora.checkpoints import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_run_that_was_killed_resumes_and_ends_with_the_bytes_of_an_undisturbed_one(base, rows, tmp_path, undisturbed):
    child = start_training(base, rows, tmp_path)
    wait_for(tmp_path, "checkpoints/*/checkpoint-2", child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (tmp_path / "adapter" / "run.json").exists()
    run(base, rows, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)
    assert losses(tmp_path) == losses(undisturbed)


def test_sigterm_saves_a_checkpoint_and_says_how_to_go_on(base, rows, tmp_path, undisturbed):
    child = start_training(base, rows, tmp_path)
    wait_for(tmp_path, "checkpoints/*/checkpoint-2", child)
    child.terminate()
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "InterruptedTrainingError: training was stopped at step" in stderr
    assert "run the same command again to go on from there" in stderr
    run(base, rows, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)


def test_only_the_newest_checkpoints_are_kept(undisturbed):
    kept = sorted(path.name for path in undisturbed.glob("checkpoints/*/checkpoint-*"))
    assert kept == ["checkpoint-4", "checkpoint-6"]


def test_watching_a_run_more_closely_does_not_start_another(base, rows, tmp_path, undisturbed):
    record = run(base, rows, tmp_path, save_steps=3, logging_steps=2, save_total_limit=1)
    assert record.run_key == read_record(str(undisturbed / "adapter")).run_key
    assert weights(tmp_path) == weights(undisturbed)


def test_a_finished_run_leaves_no_sign_of_a_writer(undisturbed):
    assert list(undisturbed.glob("checkpoints/*/writer.lock"))
    assert not list(undisturbed.glob("checkpoints/*/writer.json"))


def test_sigterm_in_the_middle_of_a_step_gives_the_step_up_and_keeps_those_before(base, rows, tmp_path):
    """Many batches a step: the signal comes while one is computed. Dropout draws random numbers in each."""
    settings = {
        "gradient_accumulation_steps": 120,
        "save_steps": 100,
        "eval_steps": 3,
        "lora_dropout": 0.1,
        "max_steps": 4,
    }
    child = start_training(base, rows, tmp_path, **settings)
    wait_for(tmp_path, "checkpoints/*/history.jsonl", child)
    history = next(tmp_path.glob("checkpoints/*/history.jsonl"))
    while history.read_text().count('"loss"') < 2 and child.poll() is None:
        time.sleep(0.005)
    time.sleep(0.05)
    child.terminate()
    _, stderr = child.communicate(timeout=60)
    assert "training was stopped at step 2 of 4" in stderr
    assert [path.name for path in tmp_path.glob("checkpoints/*/checkpoint-*")] == ["checkpoint-2"]
    run(base, rows, tmp_path, **settings)
    run(base, rows, tmp_path / "undisturbed", **settings)
    assert losses(tmp_path) == losses(tmp_path / "undisturbed")
    assert weights(tmp_path) == weights(tmp_path / "undisturbed")


def test_a_stop_between_a_step_and_its_validation_leaves_the_validation_for_later(
    base, rows, tmp_path, undisturbed, monkeypatch
):
    measure = LoraTrainer.evaluate

    def stop_at_4(self: LoraTrainer, *_: Any, **__: Any) -> dict[str, float]:
        if self.state.global_step == 4:
            self.stop.requested = True
            raise Interrupted
        return measure(self)

    monkeypatch.setattr(LoraTrainer, "evaluate", stop_at_4)
    with pytest.raises(InterruptedTrainingError, match="stopped at step 4 of 6"):
        run(base, rows, tmp_path)
    monkeypatch.undo()
    run(base, rows, tmp_path)
    assert losses(tmp_path) == losses(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed: No space left on device"),
    ],
)
def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(base, rows, tmp_path, undisturbed, monkeypatch, error):
    write, written = checkpoints._write_durably, []

    def full_after_two(path: Path, content: bytes) -> None:
        written.append(path)
        if path.parent.name == "checkpoint-4":
            raise error
        write(path, content)

    monkeypatch.setattr(checkpoints, "_write_durably", full_after_two)
    message = r"the disk is full \(.* MB free\); checkpoint-2 is complete: free some space, and run the same command"
    with pytest.raises(DiskSpaceError, match=message):
        run(base, rows, tmp_path)
    assert not list(tmp_path.glob(f"checkpoints/*/{checkpoints.STAGING}"))
    monkeypatch.undo()
    run(base, rows, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)


def test_a_checkpoint_of_another_run_is_refused(base, rows, tmp_path):
    first = run(base, rows, tmp_path, max_steps=2)
    second = run(base, rows, tmp_path, max_steps=3, save_steps=100)
    root = tmp_path / "checkpoints"
    shutil.rmtree(root / second.run_key / "checkpoint-3")
    shutil.copytree(root / first.run_key / "checkpoint-2", root / second.run_key / "checkpoint-2")
    with pytest.raises(ModelError, match=f"is a checkpoint of run {first.run_key}, not of {second.run_key}: with"):
        run(base, rows, tmp_path, max_steps=3, save_steps=100)


def test_best_weights_that_are_gone_or_damaged_are_an_error(base, rows, tmp_path):
    record = run(base, rows, tmp_path, checkpoint="best")
    best = next((tmp_path / "checkpoints").iterdir()) / f"best-{record.best_step}"
    (best / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"adapter_model.safetensors has changed .*set train.checkpoint: final, or"):
        run(base, rows, tmp_path, checkpoint="best")


def test_a_stop_before_the_first_step_says_so(base, rows, tmp_path, monkeypatch):
    def stop(self: LoraTrainer, *_: Any, **__: Any) -> dict[str, float]:
        self.stop.requested = True
        raise Interrupted

    monkeypatch.setattr(LoraTrainer, "evaluate", stop)
    with pytest.raises(InterruptedTrainingError, match="step 0 of 6, before the first was done; run the same command"):
        run(base, rows, tmp_path)
