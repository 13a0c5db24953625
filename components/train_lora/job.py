"""The files by which a training process and the process that started it communicate, all in one folder."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components import errors
from components.errors import InterruptedTrainingError, LorryError, StepFailedError

JOB = "job.json"
# Each failing process writes its error to this name plus its rank: ``error.0``.
ERROR = "error"
# The run's folder, and the fields of its record that are known before the first step.
STARTED = "started.json"
# Added to a signal's number in the exit code of a process that reports another one's end, as in a shell.
SIGNAL_CODE = 128
MAX_SIGNAL = 64
# In the message of an error that is a bug and not the user's mistake.
TRACEBACK_ABOVE = "its traceback is above"


def exit_signal(code: int) -> int | None:
    """The signal that ended a process with this exit code; None where it ended by itself."""
    number = -code if code < 0 else code - SIGNAL_CODE
    return number if 0 < number <= MAX_SIGNAL else None


def write_error(job: Path, rank: int, error: BaseException) -> None:
    """Write the error that ends a process beside the job file."""
    message = str(error) if isinstance(error, LorryError) else f"{type(error).__name__}: {error}; {TRACEBACK_ABOVE}"
    path = job.with_name(f"{ERROR}.{rank}")
    path.write_text(json.dumps({"kind": type(error).__name__, "message": message}))


def read_error(job: Path) -> LorryError | None:
    """The error of the process that failed first, as an instance of its class; None where no process wrote one."""
    paths = sorted(job.parent.glob(f"{ERROR}.*"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return None
    written = json.loads(paths[0].read_text())
    kind = getattr(errors, written["kind"], StepFailedError)
    return kind(written["message"]) if issubclass(kind, LorryError) else StepFailedError(written["message"])


def raise_reported_error(job: Path, *, stopped: bool) -> None:
    """Raise the error of an end after which no restart helps, if there is one; ``stopped`` means that SIGTERM came."""
    error = read_error(job)
    if stopped and not isinstance(error, InterruptedTrainingError):
        raise interrupted()
    if error is not None:
        raise error


def interrupted(step: int | None = None, max_steps: int | None = None) -> InterruptedTrainingError:
    """The error of a training that SIGTERM ended after ``step`` optimizer steps (None: unknown to this process)."""
    again = "run the same command again"
    if step is None:
        return InterruptedTrainingError(f"training was stopped; {again} to go on")
    where = f"training was stopped at step {step} of {max_steps}"
    if step == 0:
        return InterruptedTrainingError(f"{where}, before the first was done; {again}")
    return InterruptedTrainingError(f"{where}; its checkpoint is written, {again} to go on from there")


@contextmanager
def forwarding_sigterm(child: subprocess.Popen[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Forward SIGTERM to the child, and list each that came; kill the child when the context ends."""
    stopped: list[int] = []

    def forward(number: int, _frame: object) -> None:
        stopped.append(number)
        child.send_signal(number)

    previous = signal.signal(signal.SIGTERM, forward)
    try:
        yield child, stopped
    finally:
        signal.signal(signal.SIGTERM, previous)
        child.kill()
        if child.stdin is not None:
            child.stdin.close()  # ends the processes that the child has started


def write_started(folder: Path, run_dir: Path, known: Mapping[str, Any]) -> None:
    """Write the folder of a run that begins, and the known fields of its record."""
    path = folder / STARTED
    path.with_suffix(".new").write_text(json.dumps({"run_dir": str(run_dir), "known": dict(known)}))
    path.with_suffix(".new").rename(path)
