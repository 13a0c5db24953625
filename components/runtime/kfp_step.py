"""What every batch part's KFP face shares: logging that a pod and a terminal can both show, and metrics."""

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
from components.storage.run_notes import NoteState, StepNote, write_note

if TYPE_CHECKING:
    from kfp import dsl

log = logging.getLogger(__name__)

BEGINS = "%s begins"
_TASK = re.compile(r"^[a-z]+(-[a-z0-9]+)*$")
NOISY = ("httpx", "datasets", "transformers", "trl", "peft", "accelerate", "filelock")
# llama.cpp's binding would write pages; bitsandbytes asks for a package whose kernel inference alone uses.
SILENT = ("llama-cpp-python", "bitsandbytes.backends.cpu.ops")


class RunningStep:
    """The step that runs in this process."""

    def __init__(self, note: StepNote) -> None:
        self.figures: dict[str, float] = {}
        self._note = note
        self._started = time.monotonic()

    def log_metrics(self, metrics: dsl.Output[dsl.Metrics], figures: Mapping[str, float | None]) -> None:
        """Put ``figures`` (those that were measured) on the KFP page, and into the store under the run."""
        for name, value in figures.items():
            if value is not None:
                metrics.log_metric(name, value)
                self.figures[name] = float(value)
        # kfp.local reuses a task only when a file stands at each of its outputs.
        Path(metrics.path).write_text("")

    def note(self, state: NoteState, error: BaseException | None = None) -> None:
        """Leave word of how the step stands."""
        said = str(error) if isinstance(error, LorryError) else None
        update = {"state": state, "seconds": self.seconds, "figures": self.figures, "error": said}
        write_note(self._note.model_copy(update=update))

    @property
    def seconds(self) -> float:
        """Since the step began."""
        return time.monotonic() - self._started


@contextmanager
def step(
    name: str, *, inputs: Iterable[dsl.Artifact] = (), trial: str | None = None, fraction: float | None = None
) -> Iterator[RunningStep]:
    """Plain log lines, no progress bars and no advice of libraries, for the time of one step.

    ``inputs`` are files and folders that earlier steps made; ``trial`` and ``fraction`` tell a sweep's trials apart.

    Raises:
        InputGoneError: one of ``inputs`` is not there any more.
    """
    plain_logs(logging.INFO)
    _keep_from_others()
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
    """Check that what earlier steps made is still there: Kubeflow reuses a step whether or not its outputs are.

    Raises:
        InputGoneError: a file or folder is missing or empty.
    """
    for artifact in inputs:
        path = Path(artifact.path)
        is_there = any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
        if not is_there:
            raise InputGoneError(
                f"its input {path.name} is gone from {artifact.uri}: an earlier run made it, and somebody or a "
                "lifecycle rule removed it since; run again with --no-reuse, which makes all anew"
                f"{_maker_of(artifact.uri)}"
            )


def _maker_of(uri: str) -> str:
    """A word on the step that made what lies in Kubeflow's store at STORE/PIPELINE/RUN/TASK/ID/OUTPUT."""
    parts = uri.split("/")
    if "://" not in uri or len(parts) < 3 or not _TASK.match(parts[-3]):
        return ""
    step = re.sub(r"-\d+$", "", parts[-3]).replace("-", "_")
    return f" (--no-reuse {step} alone, where nothing else is gone)"


def _keep_from_others() -> None:
    """Give files to owner and group alone where nobody has said it: Argo's executor clears the umask in its pods."""
    if before := os.umask(0o007):
        os.umask(before)


def plain_logs(level: int) -> None:
    """Lines without bars or colours; libraries speak up only to warn."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=level, format="%(message)s", force=True)
    for logger in NOISY:
        logging.getLogger(logger).setLevel(max(level, logging.WARNING))
    for logger in SILENT:
        logging.getLogger(logger).setLevel(logging.ERROR)


def logged_metrics(metrics: dsl.Input[dsl.Metrics]) -> dict[str, float]:
    """The figures that an earlier step put into ``metrics``."""
    return {name: float(value) for name, value in metrics.metadata.items() if isinstance(value, int | float)}
