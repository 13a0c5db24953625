"""The calibration of a work folder, from what its runs and sweeps left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import RUN_RECORD_NAME, RunRecord
from components.artifacts.run_record import write_record
from components.storage.run_notes import StepNote
from pipelines.config.recipe import load_recipe
from pipelines.estimate import seconds
from pipelines.estimate.earlier_runs import RESOLVED, calibration_of
from pipelines.estimate.machines import place
from pipelines.estimate.steps import model_of
from pipelines.local.workdir import NOTES
from pipelines.resolve.resolved_recipe import ResolvedRecipe, resolve
from tests.conftest import chat_rows, recipe_text, write_jsonl


@pytest.fixture
def recipe(tiny_base, tmp_path, monkeypatch) -> ResolvedRecipe:
    # A step that takes seconds to start says nothing of its work, and those of the tiny base hardly work.
    for name in ("SMALL_START", "TORCH_START", "TRL_START", "SPLIT_START"):
        monkeypatch.setattr(seconds, name, 0.0)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tiny_base, write_jsonl(tmp_path / "rows.jsonl", chat_rows(40))))
    return resolve(load_recipe(path), tmp_path, lambda line: None)


def note(folder: Path, step: str, took: float, **more: Any) -> None:
    found = StepNote(step=step, state="finished", seconds=took, **more)
    (folder / NOTES).mkdir(parents=True, exist_ok=True)
    (folder / NOTES / found.key).write_text(found.model_dump_json())


def record(recipe: ResolvedRecipe, **changes: Any) -> RunRecord:
    """A run's record."""
    empty = dict.fromkeys(RunRecord.model_fields)
    values = {
        "schema_version": 2, "status": "finished", "stopped_by": "steps", "run_key": "1", "train": {},
        "base_model": recipe.base_model, "data_fingerprint": "", "validation_fingerprint": "", "code_fingerprint": "",
        "template_fingerprint": "", "versions": {}, "seed": 0, "hardware": "CPU (x86_64, 2 threads)",
        "precision": "float32", "train_rows": 1, "skipped_rows": 0, "steps": 6, "minutes": 0.1,
        "tokens_per_second": 1.0, "adapter_step": 6, "checkpoint": "final",
    }  # fmt: skip
    return RunRecord.model_validate({**empty, **values, **changes})


def run_folder(workdir: Path, recipe: ResolvedRecipe, name: str = "tiny-1", **changes: Any) -> Path:
    folder = workdir / "runs" / name
    folder.mkdir(parents=True)
    (folder / RESOLVED).write_text(recipe.model_dump_json())
    write_record(record(recipe, **changes), folder)
    return folder


def expected(recipe: ResolvedRecipe, step: str) -> Any:
    return next(one for one in model_of(recipe, recipe.base_model, place(None)).steps if one.step == step)


def test_a_run_says_how_much_slower_and_larger_its_steps_were(recipe, tmp_path):
    model = expected(recipe, "train_lora")
    took = model.seconds.start + 3 * model.seconds.work
    folder = run_folder(tmp_path, recipe, minutes=took / 60)
    note(folder, "train_lora", took, peak_memory_bytes=round(model.peak.host * 1.5))
    note(folder, "gate", 4.0)
    found = calibration_of(tmp_path)
    # What does not work cannot be too slow at it.
    assert [one.step for one in found.seconds] == ["train_lora"]
    assert found.seconds[0].ratio == pytest.approx(3.0, rel=0.01)
    assert [(one.step, round(one.ratio, 2)) for one in found.memory] == [("train_lora", 1.5)]


@pytest.mark.parametrize(
    "changes",
    [
        {"minutes": 1000.0},  # of several invocations: this one went on from a checkpoint
        {"stopped_by": "early_stopping"},
        {"hardware": "1 x Tesla T4"},
    ],
)
def test_a_training_that_did_not_run_whole_here_is_left_out(recipe, tmp_path, changes):
    note(run_folder(tmp_path, recipe, **changes), "train_lora", 100.0)
    assert calibration_of(tmp_path).seconds == ()


def test_what_cannot_be_read_is_left_out(recipe, tmp_path):
    gone = recipe.with_addresses({"split.data": "/nowhere.jsonl"})
    note(run_folder(tmp_path, gone, "gone"), "evaluate", 100.0)
    broken = run_folder(tmp_path, recipe, "broken")
    (broken / RESOLVED).write_text("{")
    note(broken, "evaluate", 100.0)
    failed = run_folder(tmp_path, recipe, "failed")
    (failed / RUN_RECORD_NAME).unlink()
    note(failed, "train_lora", 100.0)
    assert calibration_of(tmp_path).seconds == ()
    assert calibration_of(tmp_path / "no such folder").seconds == ()


def test_trials_of_a_sweep_count_where_they_trained_to_their_end(recipe, tmp_path):
    folder = tmp_path / "sweeps" / "sweep-1"
    sections = recipe.arguments("")
    items = [
        {"trial": {"name": name}, **{key: sections[key] for key in ("split", "base_model", "train")}}
        for name in ("whole", "rung", "diverged")
    ]
    for name, fraction, status in (
        ("whole", 1.0, "finished"), ("rung", 0.5, "finished"), ("diverged", 1.0, "diverged"),
    ):  # fmt: skip
        note(folder, "train_trial", 100.0, trial=name, fraction=fraction)
        (folder / "trials" / name).mkdir(parents=True)
        write_record(record(recipe, status=status), folder / "trials" / name)
    (folder / "job.json").write_text(json.dumps({"arguments": {"trials": items}}))
    found = calibration_of(tmp_path)
    assert [one.step for one in found.seconds] == ["train_lora"]
