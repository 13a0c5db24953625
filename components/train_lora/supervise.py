"""Training in a child process, which is restarted from its newest checkpoint when a signal kills it.

Kubeflow retries a step when its pod is gone, but not when a process in the pod is killed: the step then fails as after
an error. The parent stays small, loads no library that computes, and survives the death of the trainer.
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
from components.train_lora.job import JOB, STARTED, exit_signal, forwarding_sigterm, raise_reported_error

log = logging.getLogger(__name__)

MAX_RESTARTS = 2


def train_supervised(config: TrainConfig, base_model: BaseModelRef, **paths: str) -> RunRecord:
    """Run ``train`` in a child process, and restart it up to ``MAX_RESTARTS`` times after a signal killed it.

    ``paths`` are the other arguments of ``train``. There is no restart after an error, nor after SIGTERM to this
    process.

    Raises:
        LorryError: see ``train``.
        KilledError: a signal killed it once more after the last restart.
        OutOfMemoryError: the kernel killed it because memory ran out.
        StepFailedError: it ended by a bug; the traceback is in the log.
    """
    sections = {"config": config.model_dump(mode="json"), "base_model": base_model.model_dump(mode="json")}
    with tempfile.TemporaryDirectory(prefix="lorry-train-") as folder:
        job = Path(folder) / JOB
        job.write_text(json.dumps({**paths, **sections}))
        for n_restarts in range(MAX_RESTARTS + 1):
            kills_before = oom_kills()
            with forwarding_sigterm(_start(job)) as (child, stopped):
                code = child.wait()
            if code == 0:
                return read_record(paths["adapter_path"])
            raise_reported_error(job, stopped=bool(stopped))
            number = exit_signal(code)
            if number is None:
                raise StepFailedError(f"training ended with exit code {code}; the reason stands above")
            state = _RunState.read(job)
            if oom_kills() > kills_before:
                raise _out_of_memory(config, state, Path(paths["adapter_path"]))
            _report_kill(number, state, n_restarts)
    raise AssertionError("the last pass returns or raises")


def _start(job: Path) -> subprocess.Popen[bytes]:
    # In a session of its own, so that a signal from a terminal or Argo to the process group comes only through this
    # process.
    command = [sys.executable, "-m", "components.train_lora", str(job)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _report_kill(number: int, state: _RunState, n_restarts: int) -> None:
    """Log that signal ``number`` killed the trainer and that it is restarted.

    Raises:
        KilledError: no restart is left.
    """
    killed = f"training was killed by signal {_signal_name(number)}{state.reached}"
    if n_restarts == MAX_RESTARTS:
        raise KilledError(
            f"{killed}, {n_restarts + 1} times in all: it is not started again; the cause is in the node's log "
            "(dmesg) or the pod's events; the same submission goes on from the newest checkpoint"
        )
    log.warning("%s; starting it again, %s (restart %d of %d)", killed, state.resumes, n_restarts + 1, MAX_RESTARTS)


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)  # a real-time signal


class _RunState:
    """How far a training came, as the files of its run show."""

    def __init__(self, known: Mapping[str, Any], run_dir: Path | None) -> None:
        self.known = known
        self.run_dir = run_dir
        entries = [] if run_dir is None else History(run_dir / HISTORY_NAME, run_dir, writes=False).entries
        self.step = max((entry["step"] for entry in entries), default=0)
        newest = None if run_dir is None else checkpoints.newest(run_dir)
        self.saved = 0 if newest is None else checkpoints.step_of(newest)

    @classmethod
    def read(cls, job: Path) -> _RunState:
        """The state of the job's run; an empty one where it was killed before it began."""
        path = job.with_name(STARTED)
        if not path.is_file():
            return cls({}, None)
        started = json.loads(path.read_text())
        return cls(started["known"], Path(started["run_dir"]))

    @property
    def reached(self) -> str:
        return f" after step {self.step}" if self.step else " before its first step"

    @property
    def resumes(self) -> str:
        if not self.saved:
            return "from the first step: no checkpoint is written yet"
        return f"from {checkpoints.PREFIX}{self.saved}: {max(self.step - self.saved, 0)} steps or a few more are lost"


def _out_of_memory(config: TrainConfig, state: _RunState, adapter: Path) -> OutOfMemoryError:
    """The error; its record is written to the adapter's folder, so that a sweep continues and lists it."""
    from components.train_lora.failure import figures_of_failed, write_failed

    limit = memory_limit()
    container = "" if limit is None else f", in a container of {limit / 2**30:.1f} GiB"
    known = state.known
    advice = memory_advice(
        config, precision=known.get("precision", "float32"), base_quantization=known.get("base_quantization")
    )
    error = OutOfMemoryError(
        f"out of memory: the kernel killed training{state.reached}{container}; {advice}; or give the pool more memory "
        "(placement.pools.NAME.memory in the recipe)"
    )
    if state.run_dir is not None:
        record = RunRecord.model_validate({**known, **figures_of_failed(error, state.run_dir)})
        write_failed(record, state.run_dir, adapter)
    return error
