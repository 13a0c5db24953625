"""The calibration of a pool, from the notes that steps left in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.storage.run_notes import RUN_VARIABLE, STORE_VARIABLE, StepNote, write_note
from components.storage.store import Store
from pipelines.config.pools import Placement
from pipelines.config.recipe import load_recipe
from pipelines.estimate import seconds, submitted
from pipelines.estimate.submitted import calibration_of_pool, keep_submitted
from pipelines.resolve.resolved_recipe import ResolvedRecipe, resolve
from tests.conftest import chat_rows, recipe_text, write_jsonl

STORE = "s3://bucket/lorry"
OTHER = Placement.model_validate({"pool": "mine", "pools": {"mine": {"cpu": 1}}})


@pytest.fixture
def recipe(tiny_base, tmp_path, monkeypatch) -> ResolvedRecipe:
    for name in ("TORCH_START", "TRL_START"):
        monkeypatch.setattr(seconds, name, 0.0)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tiny_base, write_jsonl(tmp_path / "rows.jsonl", chat_rows(40))))
    return resolve(load_recipe(path), tmp_path, lambda line: None)


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """A folder in place of the bucket."""
    folder = tmp_path / "bucket"
    monkeypatch.setattr(submitted, "Store", lambda address, **_: Store(str(folder), create=True))
    return folder


def note(bucket: Path, monkeypatch, run_id: str, step: str, **more: object) -> None:
    monkeypatch.setenv(RUN_VARIABLE, run_id)
    monkeypatch.setenv(STORE_VARIABLE, str(bucket))
    write_note(StepNote.model_validate({"step": step, "state": "finished", "seconds": 50.0, **more}))


def test_what_runs_took_on_a_pool_corrects_estimates_for_it(recipe, bucket, tmp_path, monkeypatch):
    keep_submitted(tmp_path, "run-1", recipe, Placement(pool="cpu"), STORE)
    keep_submitted(tmp_path, "run-2", recipe, OTHER, STORE)
    note(bucket, monkeypatch, "run-1", "evaluate", peak_memory_bytes=10**9)
    note(bucket, monkeypatch, "run-2", "evaluate")
    note(bucket, monkeypatch, "run-2", "export_gguf", state="running")
    found = calibration_of_pool(tmp_path, "cpu")
    assert [one.step for one in found.seconds] == [one.step for one in found.memory] == ["evaluate"]
    assert found.seconds[0].ratio > 1
    assert [one.step for one in calibration_of_pool(tmp_path, "mine").seconds] == ["evaluate"]
    assert calibration_of_pool(tmp_path, "t4").seconds == ()


def test_a_training_that_went_on_from_a_checkpoint_is_left_out(recipe, bucket, tmp_path, monkeypatch):
    keep_submitted(tmp_path, "run-1", recipe, Placement(pool="cpu"), STORE)
    note(bucket, monkeypatch, "run-1", "train_lora", figures={"minutes": 2.0})
    assert calibration_of_pool(tmp_path, "cpu").seconds == ()
    note(bucket, monkeypatch, "run-1", "train_lora", figures={"minutes": 0.5})
    assert [one.step for one in calibration_of_pool(tmp_path, "cpu").seconds] == ["train_lora"]


def test_a_store_that_only_pods_reach_is_not_asked(recipe, tmp_path):
    keep_submitted(tmp_path, "run-1", recipe, Placement(), "pvc://lorry-store")
    keep_submitted(tmp_path, "run-2", recipe, Placement(), None)
    assert not (tmp_path / submitted.FOLDER).exists()


def test_a_store_that_does_not_answer_is_said_and_left_out(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    keep_submitted(tmp_path, "run-1", recipe, Placement(), STORE)
    (tmp_path / submitted.FOLDER / "other.json").write_text("{}")
    lines: list[str] = []
    assert calibration_of_pool(tmp_path, "t4", lines.append).seconds == ()
    assert lines[-1].startswith("left out: AWS_ENDPOINT_URL = 'not an address'")
