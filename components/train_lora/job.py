"""What a process that trains is given by the one that started it, and what it leaves: files of one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import errors
from components.errors import LorryError, StepFailedError

JOB = "job.json"
# What a process says that ended by an error, with its rank behind the name.
ERROR = "error"
# Which run it is, and what is known of it before the first step.
STARTED = "started.json"
# The process that started the first one: each ends when that is gone.
STARTER = "LORRY_TRAIN_STARTER"
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


def say_started(folder: Path, run_dir: Path, known: Mapping[str, Any]) -> None:
    """Leave word of a run that begins."""
    path = folder / STARTED
    path.with_suffix(".new").write_text(json.dumps({"run_dir": str(run_dir), "known": dict(known)}))
    path.with_suffix(".new").rename(path)
