"""What a process that trains is given by the one that started it, and what it leaves: files of one folder."""

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
# What a process says that ended by an error, with its rank behind the name.
ERROR = "error"
# Which run it is, and what is known of it before the first step.
STARTED = "started.json"
# How a shell tells that a signal ended a process, which one process says of another.
SIGNAL_CODE = 128
MAX_SIGNAL = 64
# Of an error that is the program's, and not the user's to mend.
TRACEBACK_ABOVE = "its traceback is above"


def exit_signal(code: int) -> int | None:
    """The signal that ended a process, of its exit code; None where it ended by itself."""
    number = -code if code < 0 else code - SIGNAL_CODE
    return number if 0 < number <= MAX_SIGNAL else None


def say_error(job: Path, rank: int, error: BaseException) -> None:
    """Leave word of the error that ends a process."""
    message = str(error) if isinstance(error, LorryError) else f"{type(error).__name__}: {error}; {TRACEBACK_ABOVE}"
    path = job.with_name(f"{ERROR}.{rank}")
    path.write_text(json.dumps({"kind": type(error).__name__, "message": message}))


def error_said(job: Path) -> LorryError | None:
    """The error of the process that failed first, as it would be here; None where none left word of one."""
    paths = sorted(job.parent.glob(f"{ERROR}.*"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return None
    said = json.loads(paths[0].read_text())
    kind = getattr(errors, said["kind"], StepFailedError)
    return kind(said["message"]) if issubclass(kind, LorryError) else StepFailedError(said["message"])


def raise_what_was_said(job: Path, *, stopped: bool) -> None:
    """Raise for an end that a restart does not help; ``stopped`` says that SIGTERM came."""
    said = error_said(job)
    if stopped and not isinstance(said, InterruptedTrainingError):
        raise interrupted()
    if said is not None:
        raise said


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
    """Hand SIGTERM on to the child, and note that it came."""
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
            child.stdin.close()  # what the child has started ends by this


def say_started(folder: Path, run_dir: Path, known: Mapping[str, Any]) -> None:
    """Leave word of a run that begins."""
    path = folder / STARTED
    path.with_suffix(".new").write_text(json.dumps({"run_dir": str(run_dir), "known": dict(known)}))
    path.with_suffix(".new").rename(path)
