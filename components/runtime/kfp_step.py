"""The frame of every batch step: plain logging, a check of the inputs, metrics, and notes on the step's state."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import InputGoneError, LorryError
from components.runtime.memory import peak_memory
from components.storage.run_notes import NoteState, StepNote, write_note

if TYPE_CHECKING:
    from kfp import dsl

log = logging.getLogger(__name__)

BEGINS = "%s begins"
_TASK = re.compile(r"^[a-z]+(-[a-z0-9]+)*$")
NOISY = ("httpx", "datasets", "transformers", "trl", "peft", "accelerate", "filelock")
# llama.cpp's binding logs pages; bitsandbytes asks for a package whose kernel only inference uses.
SILENT = ("llama-cpp-python", "bitsandbytes.backends.cpu.ops")


class RunningStep:
    """The step that runs in this process, with its figures."""

    def __init__(self, note: StepNote) -> None:
        self.figures: dict[str, float] = {}
        self._note = note
        self._started = time.monotonic()

    def log_metrics(self, metrics: dsl.Output[dsl.Metrics], figures: Mapping[str, float | None]) -> None:
        """Log ``figures`` that are not None on the KFP page, and in the run's notes in the store."""
        for name, value in figures.items():
            if value is not None:
                metrics.log_metric(name, value)
                self.figures[name] = float(value)
        # kfp.local reuses a task only when each of its outputs is a file.
        Path(metrics.path).write_text("")

    def note(self, state: NoteState, error: BaseException | None = None) -> None:
        """Write the step's state into the store."""
        message = str(error) if isinstance(error, LorryError) else None
        update = {"state": state, "seconds": self.seconds, "figures": self.figures, "error": message}
        if state != "running":
            update |= {"peak_memory_bytes": peak_memory(), "cpu_seconds": sum(os.times()[:4])}
        write_note(self._note.model_copy(update=update))

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._started


@contextmanager
def step(
    name: str, *, inputs: Iterable[dsl.Artifact] = (), trial: str | None = None, fraction: float | None = None
) -> Iterator[RunningStep]:
    """Run one step: plain log lines, checked inputs, and notes on its state in the store.

    ``inputs`` are outputs of earlier steps; ``trial`` and ``fraction`` distinguish the trials of a sweep.

    Raises:
        InputGoneError: one of ``inputs`` is missing or empty.
    """
    plain_logs(logging.INFO)
    _restrict_umask()
    log.info(BEGINS, name)
    work = RunningStep(StepNote(step=name, trial=trial, fraction=fraction, state="running"))
    work.note("running")
    try:
        require_inputs(inputs)
        yield work
    except BaseException as error:
        work.note("failed", error)
        raise
    work.note("finished")
    log.info("%s done in %.1f s", name, work.seconds)


def require_inputs(inputs: Iterable[dsl.Artifact]) -> None:
    """Check that outputs of earlier steps still exist: Kubeflow reuses a step even where they were removed.

    Raises:
        InputGoneError: a file or folder is missing or empty.
    """
    for artifact in inputs:
        path = Path(artifact.path)
        is_there = any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
        if not is_there:
            raise InputGoneError(
                f"its input {path.name} is gone from {artifact.uri}: an earlier run made it, and somebody or a "
                "lifecycle rule removed it since; run again with --no-reuse, which repeats every step"
                f"{_producer_hint(artifact.uri)}"
            )


def _producer_hint(uri: str) -> str:
    """The flag that repeats the step which produced an artifact: STORE/PIPELINE/RUN/TASK/ID/OUTPUT on Kubeflow."""
    parts = uri.split("/")
    if "://" not in uri or len(parts) < 3 or not _TASK.match(parts[-3]):
        return ""
    step = re.sub(r"-\d+$", "", parts[-3]).replace("-", "_")
    return f" (--no-reuse {step} alone, where no other output is gone)"


def _restrict_umask() -> None:
    """Let only owner and group access new files where the umask is 0, to which Argo's executor sets it in its pods."""
    if before := os.umask(0o007):
        os.umask(before)


def plain_logs(level: int) -> None:
    """Log plain lines without progress bars or colours; libraries log warnings only."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=level, format="%(message)s", force=True)
    for logger in NOISY:
        logging.getLogger(logger).setLevel(max(level, logging.WARNING))
    for logger in SILENT:
        logging.getLogger(logger).setLevel(logging.ERROR)


def logged_metrics(metrics: dsl.Input[dsl.Metrics]) -> dict[str, float]:
    """The figures that an earlier step logged into ``metrics``."""
    return {name: float(value) for name, value in metrics.metadata.items() if isinstance(value, int | float)}
