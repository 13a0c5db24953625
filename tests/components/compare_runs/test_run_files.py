"""A run is read from its folder: record, history, figures, answers and trial."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.artifacts.contracts import FIGURES_NAME, GGUF_ANSWERS_NAME, HISTORY_NAME, SAMPLES_NAME, TRIAL_NAME
from components.compare_runs.run_files import read_run
from components.errors import ModelError
from tests.components.compare_runs.runs import a_record, a_trial, an_answer, write_run


def test_a_run_has_the_facts_of_its_record(tmp_path):
    run = read_run(write_run(tmp_path / "first", a_record()))
    assert (run.name, run.status, run.steps, run.max_steps, run.seed) == ("first", "finished", 20, 20, 3)
    assert (run.base_model, run.base_loss, run.hardware, run.minutes) == ("owner/base", 3.0, "cpu", 2.0)
    assert run.data == "rows dddddddddddd"
    assert run.measured_on == "v" * 64
    assert run.identity == f"{'d' * 64} abc"
    assert run.recipe is None


def test_the_loss_is_that_of_the_weights_that_the_run_keeps(tmp_path):
    assert read_run(write_run(tmp_path / "final", a_record())).loss == 1.2
    best = read_run(write_run(tmp_path / "best", a_record(checkpoint="best", adapter_step=10)))
    assert (best.loss, best.takes_best) == (1.0, True)


def test_settings_that_do_not_change_the_loss_are_left_out(tmp_path):
    run = read_run(write_run(tmp_path, a_record()))
    assert run.settings == {
        "learning_rate": 1e-3, "checkpoint": "final", "base_model": "owner/base", "data": run.data,
    }  # fmt: skip


def test_a_trial_names_the_run_and_its_data_and_brings_its_recipe(tmp_path):
    settings = {"split.duplicates.near": "drop", "train.learning_rate": 1, "split.data": "x", "base_model": "y"}
    trial = a_trial("t1", settings=settings, data=["a.jsonl", "b.jsonl"])
    run = read_run(write_run(tmp_path / "folder", a_record(), trial=trial))
    assert (run.name, run.data, run.recipe) == ("t1", "a.jsonl, b.jsonl", {"name": "t1"})
    assert run.settings["split.duplicates.near"] == "drop"
    assert not {"train.learning_rate", "split.data"} & run.settings.keys()
    assert read_run(tmp_path / "folder", "other").name == "other"


@pytest.mark.parametrize(("stopped_by", "stopped_early"), [("stop_after_fraction", True), ("early_stopping", False)])
def test_only_a_trial_that_the_sweep_stopped_was_stopped_early(tmp_path, stopped_by, stopped_early):
    assert read_run(write_run(tmp_path, a_record(stopped_by=stopped_by))).stopped_early == stopped_early


def test_a_failed_run_has_its_reason(tmp_path):
    record = a_record(status="diverged", reason="the loss is nan", stopped_by=None)
    run = read_run(write_run(tmp_path, record))
    assert (run.status, run.reason, run.loss) == ("diverged", "the loss is nan", None)


def test_a_point_joins_the_losses_of_its_step_and_step_0_is_the_records(tmp_path):
    history = [
        {"step": 0, "eval_loss": 3.0},
        {"step": 20, "eval_loss": 1.2},
        {"step": 10, "loss": 1.5, "minutes": 1.0},
        {"step": 10, "eval_loss": 1.4},
    ]
    curve = read_run(write_run(tmp_path, a_record(), history=history)).curve
    assert [(point.step, point.training_loss, point.loss, point.minutes) for point in curve] == [
        (10, 1.5, 1.4, 1.0),
        (20, None, 1.2, None),
    ]


def test_figures_of_all_steps_are_joined(tmp_path):
    folder = write_run(tmp_path, a_record())
    (folder / FIGURES_NAME).write_text(json.dumps({"export": {"size_bytes": 5}, "gguf": {"kl_divergence": 0.1}}))
    assert read_run(folder).figures == {"size_bytes": 5, "kl_divergence": 0.1}


def test_answers_of_both_evaluations_are_read_and_unknown_keys_ignored(tmp_path):
    folder = write_run(tmp_path, a_record())
    base, quantized = an_answer("base"), an_answer("quantized")
    (folder / SAMPLES_NAME).write_text(json.dumps([{**base.model_dump(), "later": 1}]))
    (folder / GGUF_ANSWERS_NAME).write_text(json.dumps([quantized.model_dump()]))
    assert read_run(folder).answers == [base, quantized]


def test_a_folder_with_the_record_alone_is_a_run(tmp_path):
    folder = write_run(tmp_path, a_record())
    (folder / HISTORY_NAME).unlink()
    run = read_run(folder)
    assert (run.curve, run.figures, run.answers, run.loss) == ([], {}, [], None)


def test_a_folder_without_a_record_says_which_folders_have_one(tmp_path):
    with pytest.raises(ModelError, match=r"holds no run\.json, so no training was finished there; give a folder of"):
        read_run(tmp_path)
    with pytest.raises(ModelError, match="no such run folder"):
        read_run(tmp_path / "nowhere")


def test_a_record_of_another_schema_version_says_both(tmp_path):
    folder = write_run(tmp_path, a_record())
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "schema_version": 1}))
    with pytest.raises(ModelError, match=r"run\.json: .*schema version 1.* 2; train again"):
        read_run(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(ModelError, match=r"run\.json: cannot be read"):
        read_run(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (HISTORY_NAME, '{"step": 1'),
        (HISTORY_NAME, "[]"),
        (HISTORY_NAME, '{"loss": 1}'),
        (TRIAL_NAME, "{}"),
        (FIGURES_NAME, "[1]"),
        (SAMPLES_NAME, "{}x"),
        (SAMPLES_NAME, "[5]"),
    ],
)
def test_a_file_that_was_cut_or_changed_is_named(tmp_path, file, content):
    folder = write_run(tmp_path, a_record())
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=rf"{file}: cannot be read \(.*\); it was cut or changed: run the recipe"):
        read_run(folder)


def test_the_folder_of_a_real_run_is_read(tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_run.run_folder, tmp_path / "run"))
    run = read_run(folder)
    record = json.loads((folder / "run.json").read_text())
    assert run.loss == pytest.approx(record["final_eval_loss"])
    assert [point.step for point in run.measured] == [3, 6]
    assert (run.base_loss, run.steps) == (record["base_eval_loss"], 6)
    assert run.data.endswith("data.jsonl")
    assert run.figures["size_bytes"] == tiny_run.model.stat().st_size
    assert run.recipe["train"]["lora_rank"] == 4
