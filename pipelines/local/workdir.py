"""The work folder of runs on one machine: where everything lies, and what a run leaves to look at."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.contracts import FIGURES_NAME, GGUF_ANSWERS_NAME, HISTORY_NAME, RUN_RECORD_NAME, SAMPLES_NAME

# What a person opens, or `lorry report` reads, by step and output: KFP gives a file no ending.
KEPT = {
    ("split_data", "report"): "split.html",
    ("split_data", "summary"): "split.json",
    ("evaluate", "report"): "evaluation.html",
    ("evaluate", "samples"): SAMPLES_NAME,
    ("evaluate_gguf", "report"): "quantization.html",
    ("evaluate_gguf", "answers"): GGUF_ANSWERS_NAME,
}
OUTPUTS = "outputs.jsonl"


@dataclass(frozen=True)
class Workdir:
    """Where everything lies that runs make."""

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
        """Where models are published when the recipe names no store."""
        return self.root / "store"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        return self.root / "sweeps"

    def latest_result(self) -> RunResult | None:
        """What the last finished run made, or None."""
        finished = sorted(self.runs.glob("*/result.json"), key=lambda path: path.stat().st_mtime)
        return read_result(finished[-1].parent) if finished else None


def new_folder(parent: Path, name: str) -> Path:
    """A folder of its own for one run, named by what it is of and when it began."""
    folder = parent / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    return folder


@dataclass(frozen=True)
class RunResult:
    """The folder of one finished run, and what its pipeline made: path and metadata by output name."""

    folder: Path
    outputs: dict[str, dict[str, Any]]

    def path(self, name: str) -> Path:
        """The file or folder of one output."""
        return Path(self.outputs[name]["path"])

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """The metrics, by the name of the output."""
        return {
            name: {key: value for key, value in output["metadata"].items() if isinstance(value, int | float)}
            for name, output in self.outputs.items()
        }

    @property
    def places(self) -> dict[str, Path | str]:
        """Where what a person wants to open lies."""
        return {
            "model": self.model,
            "published": "{store}/models/{sha256}".format(**self.outputs["published"]["metadata"]),
            "adapter": self.path("adapter"),
            **reports_in(self.folder),
            "log": self.folder / "log.txt",
        }

    @property
    def model(self) -> Path:
        """The exported GGUF file."""
        return next(self.path("model").glob("*.gguf"))


def read_result(folder: Path) -> RunResult:
    """The result that a finished run left in its folder."""
    return RunResult(folder, json.loads((folder / "result.json").read_text(encoding="utf-8")))


def reports_in(folder: Path) -> dict[str, Path | str]:
    """The pages that a run has left in its folder, by what they are of."""
    pages = (folder / name for name in KEPT.values() if name.endswith(".html"))
    return {f"{page.stem} report": page for page in pages if page.is_file()}


def keep_what_was_made(folder: Path) -> None:
    """Copy what every finished step of a run made for people and for comparisons into the run's folder."""
    figures: dict[str, dict[str, float]] = {}
    for step, name, path, metadata in made_by_steps(folder / OUTPUTS):
        if (kept := KEPT.get((step, name))) and path.is_file():
            shutil.copyfile(path, folder / kept)
        elif (step, name) == ("train_lora", "adapter"):
            for file in (RUN_RECORD_NAME, HISTORY_NAME):
                shutil.copyfile(path / file, folder / file)
        elif name == "metrics":
            figures[step] = {key: value for key, value in metadata.items() if isinstance(value, int | float)}
    (folder / FIGURES_NAME).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def made_by_steps(outputs: Path) -> Iterator[tuple[str, str, Path, dict[str, Any]]]:
    """Step, output, path and metadata of everything that finished steps made."""
    lines = outputs.read_text(encoding="utf-8").splitlines() if outputs.is_file() else []
    for line in lines:
        done = json.loads(line)
        for name, output in done["outputs"].items():
            yield done["step"], name, Path(output["path"]), output["metadata"]
