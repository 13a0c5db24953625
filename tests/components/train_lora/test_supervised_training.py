"""Training in a process of its own: what a signal kills begins again, and what an error ends does not."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.artifacts.contracts import RunRecord
from components.artifacts.run_record import read_record
from components.errors import (
    BusyError,
    DataError,
    InterruptedTrainingError,
    KilledError,
    OutOfMemoryError,
    StepFailedError,
)
from components.train_lora import checkpoints, supervise
from components.train_lora.config import TrainConfig
from components.train_lora.supervise import MAX_RESTARTS, train_supervised
from tests.components.train_lora.training import SETTINGS, losses, run, weights

# Long enough to be met in the middle.
LONG = {"max_steps": 60, "save_steps": 5, "eval_steps": 60, "save_total_limit": 20}


def supervised(base: Any, rows: Path, folder: Path, **settings: Any) -> RunRecord:
    return run(base, rows, folder, train_supervised, **settings)


@contextmanager
def signalling(folder: Path, number: signal.Signals, n_times: int) -> Iterator[list[int]]:
    """Send a signal to the trainer ``n_times``, each time after another checkpoint; give the steps of those."""
    met: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while len(met) < n_times and not done.is_set():
            time.sleep(0.002)
            for writer in folder.glob("checkpoints/*/writer.json"):
                newest = checkpoints.newest(writer.parent)
                if newest is None or checkpoints.step_of(newest) <= max(met, default=0):
                    continue
                try:
                    pid = json.loads(writer.read_text())["pid"]
                    os.kill(pid, number)
                except (OSError, ValueError):
                    continue
                met.append(checkpoints.step_of(newest))
                while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield met
    finally:
        done.set()
        thread.join()


def test_a_trainer_killed_twice_goes_on_from_its_checkpoints_to_the_bytes_of_an_undisturbed_run(
    base, rows, tmp_path, caplog
):
    with caplog.at_level(logging.INFO), signalling(tmp_path, signal.SIGKILL, 2) as met:
        record = supervised(base, rows, tmp_path, **LONG)
    run(base, rows, tmp_path / "undisturbed", **LONG)
    assert weights(tmp_path) == weights(tmp_path / "undisturbed")
    assert losses(tmp_path) == losses(tmp_path / "undisturbed")
    assert record.steps == 60
    lines = [line for line in caplog.messages if "killed by signal" in line]
    pattern = (
        r"training was killed by signal 9 \(SIGKILL\) after step (\d+); starting it again, from checkpoint-(\d+): "
        r"(\d+) steps or a few more are lost \(restart (\d) of 2\)"
    )
    found = [[int(number) for number in re.fullmatch(pattern, line).groups()] for line in lines]
    assert [number for *_, number in found] == [1, 2]
    for step, (reached, saved, lost, _) in zip(met, found, strict=True):
        assert saved >= step
        assert lost == max(reached - saved, 0)


def test_once_more_than_is_allowed_ends_it_and_the_next_run_goes_on(base, rows, tmp_path, caplog):
    with signalling(tmp_path, signal.SIGKILL, MAX_RESTARTS + 1) as met, pytest.raises(KilledError) as caught:
        supervised(base, rows, tmp_path, **LONG)
    assert str(caught.value).startswith("training was killed by signal 9 (SIGKILL) after step ")
    assert ", 3 times in all: it is not started again" in str(caught.value)
    assert "goes on from the newest checkpoint" in str(caught.value)
    assert len(met) == 3
    assert not (tmp_path / "adapter").exists()
    caplog.set_level(logging.INFO)
    run(base, rows, tmp_path, **LONG)
    (resumed,) = [line for line in caplog.messages if line.startswith("resuming from ")]
    assert int(resumed.rpartition("-")[2]) >= met[-1]


def test_a_python_error_is_not_tried_again_and_keeps_its_kind(base, rows, tmp_path):
    with pytest.raises(DataError, match=r"has a token of the assistant within train\.max_length = 2 tokens"):
        supervised(base, rows, tmp_path, max_length=2)
    held = tmp_path / "held"
    supervised(base, rows, held, max_steps=1)
    (run_dir,) = (held / "checkpoints").iterdir()
    with checkpoints.lock_run(run_dir), pytest.raises(BusyError, match="is training this very recipe"):
        supervised(base, rows, held, max_steps=1)


def test_an_error_of_the_program_says_that_its_traceback_stands_above(base, rows, tmp_path, capfd):
    with pytest.raises(StepFailedError, match=r"its traceback is above"):
        train_supervised(
            TrainConfig.model_validate(SETTINGS), base, code="test", checkpoint_root=str(tmp_path),
            train_path=str(tmp_path / "nowhere"), validation_path=str(rows / "validation"), adapter_path=str(tmp_path),
        )  # fmt: skip
    assert "Traceback (most recent call last)" in capfd.readouterr().err


def test_sigterm_to_the_parent_saves_a_checkpoint_and_starts_nothing_again(base, rows, tmp_path, caplog):
    timer_done = threading.Event()

    def stop_when_it_trains() -> None:
        while not list(tmp_path.glob("checkpoints/*/checkpoint-*")) and not timer_done.is_set():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_it_trains)
    thread.start()
    try:
        with pytest.raises(InterruptedTrainingError, match="its checkpoint is written, run the same command again"):
            supervised(base, rows, tmp_path, **{**LONG, "max_steps": 2000})
    finally:
        timer_done.set()
        thread.join()
    assert not any("starting it again" in line for line in caplog.messages)


def test_what_the_kernel_kills_for_want_of_memory_is_a_record_with_what_would_fit(base, rows, tmp_path, monkeypatch):
    """The kernel's own count stands in: no test may fill the machine's memory."""
    counts = iter([3, 4])
    monkeypatch.setattr(supervise, "oom_kills", lambda: next(counts))
    monkeypatch.setattr(supervise, "memory_limit", lambda: 12 * 2**30)
    with signalling(tmp_path, signal.SIGKILL, 1), pytest.raises(OutOfMemoryError) as caught:
        supervised(base, rows, tmp_path, **LONG)
    assert re.sub(r"step \d+", "step N", str(caught.value)) == (
        "out of memory: the kernel killed training after step N, in a container of 12.0 GiB; set "
        "train.per_device_train_batch_size 1 (it is 2) and gradient_accumulation_steps 4 (it is 2); a step has the "
        "same rows; or give the pool more memory (placement.pools.NAME.memory in the recipe)"
    )
    record = read_record(tmp_path / "adapter")
    assert (record.status, record.reason) == ("out_of_memory", str(caught.value))
    assert record.steps >= 5
    assert (record.precision, record.final_eval_loss) == ("float32", None)
