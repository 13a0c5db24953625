"""Training in a process of its own: what a signal kills begins again from its newest checkpoint.

Kubeflow tries a step again when its pod is gone, and not when a process in it was killed: the step then ends like any
that made an error. This process stays small, holds no library that computes, and outlives the one that trains.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.artifacts.contracts import HISTORY_NAME, BaseModelRef, RunRecord
from components.artifacts.run_record import read_record
from components.errors import KilledError, OutOfMemoryError, StepFailedError
from components.runtime.memory import memory_limit, oom_kills
from components.train_lora import checkpoints
from components.train_lora.advice import memory_advice
from components.train_lora.config import TrainConfig
from components.train_lora.history import History
from components.train_lora.job import JOB, STARTED, exit_signal, forwarding_sigterm, raise_what_was_said

log = logging.getLogger(__name__)

MAX_RESTARTS = 2


def train_supervised(config: TrainConfig, base_model: BaseModelRef, **paths: str) -> RunRecord:
    """As ``train``, in a process of its own, which is started again where a signal killed it.

    ``paths`` are the other arguments of ``train``. There are ``MAX_RESTARTS`` restarts at most, and none after SIGTERM
    came to this process or after an error.

    Raises:
        LorryError: see ``train``.
        KilledError: it was killed more often than that.
        OutOfMemoryError: the kernel killed it for want of memory.
        StepFailedError: an error in the program ended it; the traceback is in the log.
    """
    sections = {"config": config.model_dump(mode="json"), "base_model": base_model.model_dump(mode="json")}
    with tempfile.TemporaryDirectory(prefix="lorry-train-") as folder:
        job = Path(folder) / JOB
        job.write_text(json.dumps({**paths, **sections}))
        for n_restarts in range(MAX_RESTARTS + 1):
            killed_before = oom_kills()
            with forwarding_sigterm(_start(job)) as (child, stopped):
                code = child.wait()
            if code == 0:
                return read_record(paths["adapter_path"])
            raise_what_was_said(job, stopped=bool(stopped))
            if exit_signal(code) is None:
                raise StepFailedError(f"training ended with exit code {code}; the reason stands above")
            state = _Progress.read(job)
            if oom_kills() > killed_before:
                raise _out_of_memory(config, state, Path(paths["adapter_path"]))
            told = f"training was killed by signal {_named(exit_signal(code) or 0)}{state.where}"
            if n_restarts == MAX_RESTARTS:
                raise KilledError(
                    f"{told}, {n_restarts + 1} times in all: it is not started again; what kills it stands in the "
                    "node's log (dmesg) or the pod's events; the same submission goes on from the newest checkpoint"
                )
            log.warning(
                "%s; starting it again, %s (restart %d of %d)", told, state.resumes, n_restarts + 1, MAX_RESTARTS
            )
    raise AssertionError("the last pass returns or raises")


def _start(job: Path) -> subprocess.Popen[bytes]:
    # A session of its own: the signals that a terminal or Argo sends to a whole group come through this process alone.
    command = [sys.executable, "-m", "components.train_lora", str(job)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _named(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)  # a real-time signal


class _Progress:
    """How far a training came, as the files of its run say."""

    def __init__(self, known: Mapping[str, Any], run_dir: Path | None) -> None:
        self.known = known
        self.run_dir = run_dir
        entries = [] if run_dir is None else History(run_dir / HISTORY_NAME, run_dir, writes=False).entries
        self.step = max((entry["step"] for entry in entries), default=0)
        newest = None if run_dir is None else checkpoints.newest(run_dir)
        self.saved = 0 if newest is None else checkpoints.step_of(newest)

    @classmethod
    def read(cls, job: Path) -> _Progress:
        """Of the job's run; nothing where it was killed before it began."""
        path = job.with_name(STARTED)
        if not path.is_file():
            return cls({}, None)
        started = json.loads(path.read_text())
        return cls(started["known"], Path(started["run_dir"]))

    @property
    def where(self) -> str:
        return f" after step {self.step}" if self.step else " before its first step"

    @property
    def resumes(self) -> str:
        if not self.saved:
            return "from the first step: no checkpoint is written yet"
        return f"from {checkpoints.PREFIX}{self.saved}: {max(self.step - self.saved, 0)} steps or a few more are lost"


def _out_of_memory(config: TrainConfig, state: _Progress, adapter: Path) -> OutOfMemoryError:
    """The error, with a record of it where the adapter would be: a sweep goes on, and its table says so."""
    from components.train_lora.failure import figures_of_failed, write_failed

    limit = memory_limit()
    held = "" if limit is None else f", in a container of {limit / 2**30:.1f} GiB"
    known = state.known
    lower = memory_advice(
        config, precision=known.get("precision", "float32"), base_quantization=known.get("base_quantization")
    )
    error = OutOfMemoryError(
        f"out of memory: the kernel killed training{state.where}{held}; {lower}; or give the pool more memory "
        "(placement.pools.NAME.memory in the recipe)"
    )
    if state.run_dir is not None:
        record = RunRecord.model_validate({**known, **figures_of_failed(error, state.run_dir)})
        write_failed(record, state.run_dir, adapter)
    return error
