"""The calibration of a work folder: its runs and sweeps, each beside what published figures give for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.artifacts.contracts import RUN_RECORD_NAME, BaseModelRef, RunRecord
from components.artifacts.run_record import read_record
from components.errors import LorryError
from components.storage.run_notes import StepNote, notes_in
from pipelines.config.steps import Sections
from pipelines.estimate.calibration import LEAST_SHARE_OF_WORK, Calibration, Measured
from pipelines.estimate.machines import Place, place
from pipelines.estimate.steps import STEP_MODELS, RunModel, StepModel, model_of
from pipelines.local.workdir import NOTES, Workdir
from pipelines.resolve.resolved_recipe import ResolvedRecipe

# Of the newest of each kind: older ones may be of another machine or another version.
MAX_RUNS = 5
RESOLVED = "recipe.resolved.json"
# What one earlier step says of the seconds of work, and of the peak of memory; None where it says nothing.
Pair = tuple[Measured | None, Measured | None]


def calibration_of(workdir: Path, report: Callable[[str], None] = lambda line: None) -> Calibration:
    """Corrections by the newest runs and sweeps in a work folder; those whose inputs are gone are left out."""
    folders = Workdir(workdir)
    here = place(None)
    found: list[Pair] = []
    for folder in _newest(folders.runs, f"{NOTES}/*.json"):
        report(f"reading the earlier run {folder.name}")
        found += _of_run(folder, here)
    for folder in _newest(folders.sweeps, f"{NOTES}/train_trial*.json"):
        report(f"reading the earlier sweep {folder.name}")
        found += _of_sweep(folder, here)
    return calibration_from(found)


def calibration_from(pairs: Sequence[Pair]) -> Calibration:
    """The calibration of what earlier steps say of seconds and of memory."""
    return Calibration(
        seconds=tuple(seconds for seconds, _ in pairs if seconds), memory=tuple(peak for _, peak in pairs if peak)
    )


def _newest(parent: Path, pattern: str) -> list[Path]:
    folders = {path.parent.parent for path in parent.glob(f"*/{pattern}")}
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)[:MAX_RUNS]


def _of_run(folder: Path, here: Place) -> list[Pair]:
    """What the steps of one run took."""
    try:
        recipe = ResolvedRecipe.model_validate_json((folder / RESOLVED).read_bytes())
        notes = [note for note in notes_in(folder / NOTES) if note.step in STEP_MODELS and note.state == "finished"]
        model = model_of(recipe, recipe.base_model, here, steps=[note.step for note in notes])
    except (OSError, ValidationError, LorryError):
        return []
    steps = {step.step: step for step in model.steps}
    record = _record(folder)
    return [
        beside(steps[note.step], note, model)
        for note in notes
        if note.step != "train_lora" or _is_whole(note, record, steps[note.step])
    ]


def _of_sweep(folder: Path, here: Place) -> list[Pair]:
    """What the trials of one sweep took that trained from their first step to their end."""
    try:
        items = json.loads((folder / "job.json").read_bytes())["arguments"]["trials"]
    except (OSError, ValueError, KeyError):
        return []
    notes = {note.trial: note for note in notes_in(folder / NOTES) if note.step == "train_trial"}
    pairs: list[Pair] = []
    for item in items:
        note = notes.get(item["trial"]["name"])
        if note is not None and note.state == "finished" and note.fraction == 1.0:
            pairs += _of_trial(item, note, _record(folder / "trials" / str(note.trial)), here)
    return pairs


def _of_trial(item: dict[str, Any], note: StepNote, record: RunRecord | None, here: Place) -> Iterable[Pair]:
    try:
        sections = Sections.model_validate({"split": item["split"], "train": item["train"]})
        model = model_of(sections, BaseModelRef.model_validate(item["base_model"]), here, steps=["train_lora"])
    except (ValidationError, LorryError):
        return
    (step,) = model.steps
    if record is not None and record.status == "finished" and _is_whole(note, record, step):
        yield beside(step, note, model)


def _record(folder: Path) -> RunRecord | None:
    try:
        return read_record(str(folder)) if (folder / RUN_RECORD_NAME).is_file() else None
    except LorryError:
        return None


def _is_whole(note: StepNote, record: RunRecord | None, step: StepModel) -> bool:
    """Whether the step trained from the first step to the last: one that resumed took less than its record says."""
    if record is None or note.seconds is None or record.stopped_by not in ("steps", "stop_after_fraction"):
        return False
    is_same_hardware = record.hardware.startswith("CPU") != step.machine.has_gpu
    return is_same_hardware and 60 * record.minutes <= note.seconds


def beside(step: StepModel, note: StepNote, model: RunModel) -> Pair:
    """The ratios of a step's seconds of work, and of its peak memory, where they say something."""
    n = model.shape.n_parameters
    seconds = peak = None
    if note.seconds is not None and step.seconds.work > LEAST_SHARE_OF_WORK * step.seconds.total:
        worked = max(note.seconds - step.seconds.start, 0.1 * note.seconds)
        seconds = Measured(step.step, n, worked / step.seconds.work)
    if note.peak_memory_bytes:
        peak = Measured(step.step, n, note.peak_memory_bytes / step.peak.host)
    return seconds, peak
