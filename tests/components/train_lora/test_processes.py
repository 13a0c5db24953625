"""What several processes agree on, and how they are started; test_several_processes runs torch.distributed itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from components.errors import DataError, InterruptedTrainingError, KilledError
from components.train_lora import processes
from components.train_lora.job import interrupted, write_error


def test_a_process_alone_needs_no_agreement(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert (processes.n_processes(), processes.rank()) == (1, 0)
    assert processes.any_process(True) is True
    assert processes.any_process(False) is False
    assert processes.sum_over_processes([1.5, 2]) == [1.5, 2]
    processes.barrier()


def test_one_of_several_reads_its_number_from_the_environment(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (processes.n_processes(), processes.rank()) == (4, 3)


def test_values_are_summed_in_double_precision_and_a_flag_counts_from_any_process(monkeypatch):
    """As if another process had called with the same values."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.mul_(2))
    assert processes.sum_over_processes([0.1, 3]) == [0.2, 6.0]
    assert processes.any_process(True) is True
    assert processes.any_process(False) is False


@pytest.mark.parametrize(("n_gpus", "world", "n"), [(0, "1", 1), (1, "1", 1), (4, "1", 4), (4, "4", 1)])
def test_a_process_is_started_for_each_gpu_and_by_none_of_them(monkeypatch, n_gpus, world, n):
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert processes.n_to_start() == n


class Launcher:
    """In place of torch's launcher: ``act`` gets the job's path and gives the exit code."""

    def __init__(self, act: Any) -> None:
        self.act = act
        self.stdin = None

    def __call__(self, command: list[str], **options: Any) -> Launcher:
        self.command, self.options = command, options
        self.job = Path(command[-1])
        return self

    def wait(self) -> int:
        return int(self.act(self.job))

    def kill(self) -> None:
        """It has ended already."""


def launch(monkeypatch: pytest.MonkeyPatch, act: Any, **arguments: Any) -> Launcher:
    launcher = Launcher(act)
    monkeypatch.setattr(subprocess, "Popen", launcher)
    processes.train_distributed(2, {"code": "test"}, **arguments)
    return launcher


def test_the_launcher_gets_the_job_and_shares_the_cores(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    read = {}

    def act(job: Path) -> int:
        read.update(json.loads(job.read_text()))
        return 0

    launcher = launch(monkeypatch, act, job_dir=tmp_path)
    assert read == {"code": "test", "job_dir": str(tmp_path)}
    assert launcher.command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert "--nproc-per-node=2" in launcher.command
    assert launcher.options["env"]["OMP_NUM_THREADS"] == "4"
    assert launcher.options["stdin"] == subprocess.PIPE
    assert not launcher.job.exists(), "the job's folder is temporary"


def test_threads_that_the_user_has_set_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launch(monkeypatch, lambda _: 0).options["env"]["OMP_NUM_THREADS"] == "3"


def failing(error: Exception) -> Any:
    def act(job: Path) -> int:
        write_error(job, 1, error)
        return 1

    return act


def test_the_error_of_a_process_is_raised_here(monkeypatch):
    with pytest.raises(DataError, match=r"^no rows$"):
        launch(monkeypatch, failing(DataError("no rows")))
    with pytest.raises(InterruptedTrainingError, match="at step 2 of 6"):
        launch(monkeypatch, failing(interrupted(2, 6)))


def test_an_end_without_an_error_is_a_kill(monkeypatch):
    with pytest.raises(KilledError, match=r"one of 2 processes .* was killed \(exit code 137"):
        launch(monkeypatch, lambda _: 137)
