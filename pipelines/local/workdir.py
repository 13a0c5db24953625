"""The work folder of runs on one machine: its folders, and what a run leaves in its own.

A run's facts are in ``outputs.jsonl``: a line for each finished step, with the path and the metadata of every output,
and at last one with the run's state.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.contracts import FIGURES_NAME
from pipelines.config.steps import RUN_STEPS, Step

OUTPUTS = "outputs.jsonl"
# The folder in a run's own with a note for each step that ran: its seconds and its peak memory.
NOTES = "notes"
SUCCEEDED = "SUCCEEDED"
# Runs hold it together, `lorry gc` alone; the kernel releases it when a process ends, however it ends.
LOCK = ".in-use.lock"


@dataclass(frozen=True)
class Workdir:
    """The folders of all runs on this machine."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def steps(self) -> Path:
        return self.root / "steps"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def store(self) -> Path:
        """Models are published here when the recipe names no store."""
        return self.root / "store"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        return self.root / "sweeps"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the work folder for a run, so that nothing that it may reuse is removed; wait for a gc that deletes."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold the work folder alone; gives False where a run or another gc uses it."""
        with (self.root / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @property
    def is_in_use(self) -> bool:
        """Whether a run, or a gc that deletes, holds the work folder now."""
        if not (self.root / LOCK).is_file():
            return False
        with self.alone() as got:
            return not got

    def latest_result(self) -> RunResult | None:
        """The result of the run that finished last, or None."""
        newest_first = sorted(self.runs.glob(f"*/{OUTPUTS}"), key=lambda path: path.stat().st_mtime, reverse=True)
        results = (read_result(path.parent) for path in newest_first)
        return next((result for result in results if result is not None), None)


def new_folder(parent: Path, name: str) -> Path:
    """A new folder for one run, named by its recipe and its start."""
    folder = parent / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    return folder


@dataclass(frozen=True)
class StepOutput:
    """One output of a finished step. A step that stands several times in a graph has several of one name."""

    step: str
    name: str
    path: Path
    metadata: dict[str, Any]

    @property
    def figures(self) -> dict[str, float]:
        """The numbers among its metadata."""
        return {key: value for key, value in self.metadata.items() if isinstance(value, int | float)}


@dataclass(frozen=True)
class RunResult:
    """The folder of a finished run, and the outputs of its steps."""

    folder: Path
    outputs: list[StepOutput]

    def output(self, step: str, name: str) -> StepOutput:
        """One output of a step."""
        return next(output for output in self.outputs if (output.step, output.name) == (step, name))

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """The metrics of each step that has any."""
        return figures_of(self.outputs)

    @property
    def locations(self) -> dict[str, Path | str]:
        """Paths and addresses of what a person opens, by what they are."""
        return {
            "model": self.model,
            "published": "{store}/models/{sha256}".format(**self.output("publish_model", "published").metadata),
            "adapter": self.adapter,
            **reports_in(self.folder),
            "log": self.folder / "log.txt",
        }

    @property
    def adapter(self) -> Path:
        """The adapter's folder."""
        return self.output("train_lora", "adapter").path

    @property
    def model(self) -> Path:
        """The exported GGUF file; its folder's, where the file is gone."""
        folder = self.output("export_gguf", "model").path
        return next(folder.glob("*.gguf"), folder / "model.gguf")


def read_result(folder: Path) -> RunResult | None:
    """The result of the run in ``folder``, or None where none has finished there."""
    lines = _lines(folder)
    if not any(line.get("state") == SUCCEEDED for line in lines):
        return None
    return RunResult(folder, _outputs(lines))


def outputs_in(folder: Path) -> list[StepOutput]:
    """The outputs of every finished step of the run in ``folder``, also of one that failed later."""
    return _outputs(_lines(folder))


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / OUTPUTS
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # What follows the last line end is being written, or was cut off when the run was killed.
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _outputs(lines: Iterable[dict[str, Any]]) -> list[StepOutput]:
    return [
        StepOutput(line["step"], name, Path(output["path"]), output["metadata"])
        for line in lines
        for name, output in line.get("outputs", {}).items()
    ]


def figures_of(outputs: Iterable[StepOutput]) -> dict[str, dict[str, float]]:
    """The metrics among ``outputs``, by step."""
    return {output.step: output.figures for output in outputs if output.name == "metrics"}


def reports_in(folder: Path) -> dict[str, Path | str]:
    """The report pages in a run's folder, by their subject."""
    names = [name for step in RUN_STEPS for name in step.kept.values() if name.endswith(".html")]
    return {f"{Path(name).stem} report": folder / name for name in names if (folder / name).is_file()}


def keep_outputs(folder: Path, steps: Iterable[Step]) -> None:
    """Copy into the run's ``folder`` the outputs that ``steps`` keep.

    What a step left several times, as the winners of a sweep do, is numbered from the second on.
    """
    outputs = outputs_in(folder)
    for step in steps:
        for source, target in step.kept.items():
            name, _, file = source.partition("/")
            found = [output.path / file for output in outputs if (output.step, output.name) == (step.name, name)]
            for number, path in enumerate(path for path in found if path.is_file()):
                kept = Path(target)
                shutil.copyfile(path, folder / (f"{kept.stem}-{number + 1}{kept.suffix}" if number else kept))


def write_figures(folder: Path) -> None:
    """Write the metrics of every finished step into the run's ``folder``, as JSON."""
    figures = json.dumps(figures_of(outputs_in(folder)), indent=2) + "\n"
    (folder / FIGURES_NAME).write_text(figures, encoding="utf-8")
