"""What the supervising process says of a trainer that a signal killed; real kills are in test_supervised_training."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import HISTORY_NAME, BaseModelRef
from components.errors import DataError, KilledError, OutOfMemoryError, StepFailedError
from components.train_lora import supervise
from components.train_lora.config import TrainConfig
from components.train_lora.job import JOB, write_error, write_started
from components.train_lora.supervise import MAX_RESTARTS, train_supervised

BASE = BaseModelRef(address="/base", revision="r", weight_bytes=0)


class Child:
    """In place of a trainer's process: it ends with the next of ``codes``, after ``act`` has seen the job's path."""

    stdin = None

    def __init__(self, job: Path, code: int, act: Any) -> None:
        self.job, self.code, self.act = job, code, act

    def wait(self) -> int:
        self.act(self.job)
        return self.code

    def kill(self) -> None:
        """It has ended already."""


def supervised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: list[int], act: Any = lambda _: None) -> None:
    """Supervise trainers that end with ``codes``, one after another."""
    left = iter(codes)
    monkeypatch.setattr(supervise.subprocess, "Popen", lambda command, **_: Child(Path(command[-1]), next(left), act))
    monkeypatch.setattr(supervise, "oom_kills", lambda: 0)
    train_supervised(TrainConfig(), BASE, code="c", adapter_path=str(tmp_path / "adapter"))


def begin(run_dir: Path, *, step: int, saved: int | None) -> Any:
    """What a trainer leaves that came to ``step`` and wrote a checkpoint at ``saved``."""

    def act(job: Path) -> None:
        run_dir.mkdir(exist_ok=True)
        (run_dir / HISTORY_NAME).write_text(json.dumps({"step": step, "loss": 1.0}) + "\n")
        if saved is not None:
            (run_dir / f"checkpoint-{saved}").mkdir(exist_ok=True)
        write_started(job.parent, run_dir, {})

    return act


def test_a_killed_trainer_is_restarted_with_a_line_that_says_what_is_lost(monkeypatch, tmp_path, caplog):
    act = begin(tmp_path / "run", step=9, saved=6)
    with pytest.raises(KilledError) as caught:
        supervised(monkeypatch, tmp_path, [-9, 137, -11], act)
    first, second = caplog.messages
    assert first.startswith("training was killed by signal 9 (SIGKILL) after step 9; starting it again, ")
    assert "from checkpoint-6: 3 steps or a few more are lost (restart 1 of 2)" in first
    assert "(restart 2 of 2)" in second
    assert "killed by signal 11 (SIGSEGV) after step 9, 3 times in all" in str(caught.value)


@pytest.mark.parametrize(
    ("step", "saved", "words"),
    [
        (9, None, "after step 9; starting it again, from the first step: no checkpoint is written yet"),
        (4, 6, "from checkpoint-6: 0 steps or a few more are lost"),  # the history is behind the checkpoint
    ],
)
def test_the_line_follows_the_files_of_the_run(monkeypatch, tmp_path, caplog, step, saved, words):
    with pytest.raises(KilledError):
        supervised(monkeypatch, tmp_path, [-9] * (MAX_RESTARTS + 1), begin(tmp_path / "run", step=step, saved=saved))
    assert words in caplog.messages[0]


def test_a_trainer_that_was_killed_before_it_began_starts_from_the_first_step(monkeypatch, tmp_path, caplog):
    with pytest.raises(KilledError, match="before its first step"):
        supervised(monkeypatch, tmp_path, [-9] * (MAX_RESTARTS + 1))
    assert "before its first step; starting it again, from the first step" in caplog.messages[0]


def test_a_real_time_signal_has_a_number_only(monkeypatch, tmp_path, caplog):
    with pytest.raises(KilledError, match=r"killed by signal 40 before"):
        supervised(monkeypatch, tmp_path, [-40] * (MAX_RESTARTS + 1))


def test_an_error_is_raised_and_not_retried(monkeypatch, tmp_path, caplog):
    with pytest.raises(DataError, match=r"^no rows$"):
        supervised(monkeypatch, tmp_path, [1], lambda job: write_error(job, 0, DataError("no rows")))
    with pytest.raises(StepFailedError, match="training ended with exit code 3"):
        supervised(monkeypatch, tmp_path, [3])
    assert caplog.messages == []


def test_the_job_has_the_settings_the_base_and_the_paths(monkeypatch, tmp_path):
    read: dict[str, Any] = {}

    def act(job: Path) -> None:
        assert job.name == JOB
        read.update(json.loads(job.read_text()))

    with pytest.raises(StepFailedError):
        supervised(monkeypatch, tmp_path, [3], act)
    assert TrainConfig.model_validate(read["config"]) == TrainConfig()
    assert BaseModelRef.model_validate(read["base_model"]) == BASE
    assert (read["code"], read["adapter_path"]) == ("c", str(tmp_path / "adapter"))


def test_the_trainer_is_a_session_of_its_own_and_ends_with_this_process(monkeypatch, tmp_path):
    """Its standard input is a pipe that this process holds; see components.runtime.parent_death."""
    seen: dict[str, Any] = {}

    def popen(command: list[str], **options: Any) -> Child:
        seen.update(options)
        return Child(Path(command[-1]), 3, lambda _: None)

    monkeypatch.setattr(supervise.subprocess, "Popen", popen)
    with pytest.raises(StepFailedError):
        train_supervised(TrainConfig(), BASE, adapter_path=str(tmp_path))
    assert seen == {"stdin": subprocess.PIPE, "start_new_session": True}


def test_a_kill_by_the_kernel_before_the_run_began_names_the_setting_and_leaves_no_record(
    monkeypatch, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    counts = iter([0, 1])
    monkeypatch.setattr(supervise.subprocess, "Popen", lambda command, **_: Child(Path(command[-1]), -9, lambda _: 0))
    monkeypatch.setattr(supervise, "oom_kills", lambda: next(counts))
    monkeypatch.setattr(supervise, "memory_limit", lambda: None)
    with pytest.raises(OutOfMemoryError) as caught:
        train_supervised(TrainConfig(), BASE, adapter_path=str(tmp_path / "adapter"))
    message = str(caught.value)
    assert message.startswith("out of memory: the kernel killed training before its first step; set train.per_device_")
    assert "placement.pools.NAME.memory" in message
    assert "container" not in message
    assert not (tmp_path / "adapter").exists()
