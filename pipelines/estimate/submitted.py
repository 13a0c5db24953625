"""Runs that were sent to a cluster, kept in the work folder so that what they took there corrects later estimates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from components.errors import LorryError
from components.storage.run_notes import StepNote, read_notes
from components.storage.store import Store
from pipelines.config.pools import Placement
from pipelines.estimate.calibration import Calibration
from pipelines.estimate.earlier_runs import MAX_RUNS, Pair, beside, calibration_from
from pipelines.estimate.machines import place
from pipelines.estimate.steps import STEP_MODELS, model_of
from pipelines.resolve.resolved_recipe import ResolvedRecipe

FOLDER = "submitted"


class SubmittedRun(BaseModel):
    """A run as it was sent, and the store in which its steps leave their notes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    recipe: ResolvedRecipe
    placement: Placement
    store: str


def keep_submitted(workdir: Path, run_id: str, recipe: ResolvedRecipe, placement: Placement, store: str | None) -> None:
    """Write down a run that was sent; one whose store only pods reach is not."""
    if store is None or not store.startswith(("s3://", "gs://")):
        return
    folder = workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    kept = SubmittedRun(recipe=recipe, placement=placement, store=store)
    (folder / f"{run_id}.json").write_text(kept.model_dump_json(indent=2) + "\n", encoding="utf-8")


def calibration_of_pool(workdir: Path, pool: str, report: Callable[[str], None] = lambda line: None) -> Calibration:
    """Corrections by the newest runs that trained on a pool; those whose notes cannot be read are left out."""
    paths = sorted((workdir / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    found: list[Pair] = []
    n = 0
    for path in paths:
        try:
            run = SubmittedRun.model_validate_json(path.read_bytes())
        except ValidationError:
            continue
        if run.placement.pool != pool or n == MAX_RUNS:
            continue
        n += 1
        report(f"reading the earlier run {path.stem}")
        found += _of_run(run, path.stem, report)
    return calibration_from(found)


def _of_run(run: SubmittedRun, run_id: str, report: Callable[[str], None]) -> list[Pair]:
    try:
        notes = read_notes(Store(run.store, short_timeouts=True), run_id, {})
        finished = [note for note in notes.values() if note.state == "finished" and note.step in STEP_MODELS]
        steps = [note.step for note in finished]
        model = model_of(run.recipe, run.recipe.base_model, place(run.placement), steps=steps)
    except LorryError as error:
        report(f"left out: {error}")
        return []
    models = {step.step: step for step in model.steps}
    return [beside(models[note.step], note, model) for note in finished if not _has_resumed(note)]


def _has_resumed(note: StepNote) -> bool:
    """Whether a training went on from a checkpoint: it took less than its minutes of all invocations say."""
    return note.seconds is not None and 60 * note.figures.get("minutes", 0.0) > note.seconds
