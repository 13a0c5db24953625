"""The frame of every step: inputs that are gone, files for owner and group, notes in the store."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from kfp import dsl

from components.errors import DataError, InputGoneError
from components.runtime.kfp_step import NOISY, SILENT, logged_metrics, plain_logs, require_inputs, step
from components.storage.run_notes import RUN_VARIABLE, STORE_VARIABLE, StepNote, folder_of, read_notes, write_note
from components.storage.store import Store


def artifact(path: Path) -> dsl.Artifact:
    made = dsl.Artifact(name="model", uri=str(path))
    made.metadata = {}
    return made


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    address = str(tmp_path / "store")
    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    monkeypatch.setenv(STORE_VARIABLE, address)
    return Store(address, create=True)


@pytest.mark.parametrize("kind", ["missing", "empty file", "empty folder"])
def test_an_input_that_is_gone_names_the_flag_that_repeats_its_step(tmp_path, kind):
    path = tmp_path / "model"
    if kind == "empty file":
        path.touch()
    elif kind == "empty folder":
        path.mkdir()
    with pytest.raises(InputGoneError) as caught, step("publish_model", inputs=[artifact(path)]):
        pytest.fail("the step began")
    assert str(caught.value).startswith(f"its input model is gone from {path}: an earlier run made it")
    assert str(caught.value).endswith("run again with --no-reuse, which repeats every step")


def test_in_kubeflows_store_the_step_that_produced_it_is_named(tmp_path):
    made = artifact(tmp_path / "model")
    made.uri = "minio://mlpipeline/v2/artifacts/finetune/cb87/export-gguf-2/05c2/model"
    made._get_path = lambda: str(tmp_path / "model")  # what KFP's own executor has mapped it to
    with pytest.raises(
        InputGoneError, match=r"which repeats every step \(--no-reuse export_gguf alone, where no other output"
    ):
        require_inputs([made])


def test_inputs_that_are_there_are_taken(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.gguf").write_bytes(b"GGUF")
    with step("publish_model", inputs=[artifact(tmp_path / "model")]):
        pass


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_where_the_umask_was_cleared_files_are_of_owner_and_group(tmp_path):
    before = os.umask(0)  # as Argo's executor leaves it
    try:
        with step("train_lora"):
            (tmp_path / "file").touch()
            (tmp_path / "folder").mkdir()
    finally:
        os.umask(before)
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == ("0o660", "0o770")


def test_a_umask_that_was_set_stays(tmp_path):
    before = os.umask(0o022)
    try:
        with step("train_lora"):
            (tmp_path / "file").touch()
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == "0o644"


def test_a_step_writes_notes_with_its_figures(tmp_path, store):
    metrics = dsl.Metrics(name="metrics", uri=str(tmp_path / "metrics"))
    metrics.metadata = {}
    with step("train_trial", trial="fast", fraction=0.5) as work:
        (during,) = read_notes(store, "run-1", {}).values()
        work.log_metrics(metrics, {"steps": 9, "best_eval_loss": None})
    ((key, after),) = read_notes(store, "run-1", {}).items()
    assert (during.state, after.state, key) == ("running", "finished", "train_trial@fast@0.5000.json")
    assert (after.trial, after.fraction, after.figures) == ("fast", 0.5, {"steps": 9.0})
    assert (after.seconds or 0) > 0
    assert (after.peak_memory_bytes or 0) > 10_000_000
    assert (after.cpu_seconds or 0) > 0


def test_a_step_that_fails_says_what_the_user_can_correct_and_no_more(store):
    with pytest.raises(DataError), step("split_data"):
        raise DataError("rows.jsonl: line 7")
    with pytest.raises(KeyError), step("evaluate"):
        raise KeyError("a bug")
    notes = {note.step: note for note in read_notes(store, "run-1", {}).values()}
    assert (notes["split_data"].state, notes["split_data"].error) == ("failed", "rows.jsonl: line 7")
    assert (notes["evaluate"].state, notes["evaluate"].error) == ("failed", None)


def test_a_store_that_cannot_be_written_stops_no_step(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "file" / "store"))
    write_note(StepNote(step="split_data", state="running"))
    assert "the state of this step cannot be written into the store" in caplog.text


def test_notes_of_another_version_are_skipped(store):
    store.put_bytes(f"{folder_of('run-1')}/split_data.json", b'{"schema_version": 99}')
    assert read_notes(store, "run-1", {}) == {}


def test_a_store_that_answers_not_found_stops_no_step_either(monkeypatch, caplog):
    def put_bytes(*_: object) -> None:
        raise FileNotFoundError("s3://lorry/runs")

    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    monkeypatch.setenv(STORE_VARIABLE, "s3://lorry/store")
    monkeypatch.setattr(Store, "put_bytes", put_bytes)
    write_note(StepNote(step="split_data", state="running"))
    assert "the state of this step cannot be written into the store" in caplog.text


def test_metrics_that_were_not_measured_are_left_out_and_others_are_read_again(tmp_path):
    metrics = dsl.Metrics(name="metrics", uri=str(tmp_path / "metrics"))
    metrics.metadata = {}
    with step("evaluate") as work:
        work.log_metrics(metrics, {"loss": 2.5, "steps": 3, "best_eval_loss": None})
    assert (tmp_path / "metrics").is_file(), "kfp.local reuses a task only where each output is a file"
    assert logged_metrics(metrics) == {"loss": 2.5, "steps": 3.0}
    metrics.metadata["display_name"] = "a text is no figure"
    assert logged_metrics(metrics) == {"loss": 2.5, "steps": 3.0}


def test_logs_are_plain_and_libraries_only_warn(monkeypatch):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in (*NOISY, *SILENT)}
    for name in ("TQDM_DISABLE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.delenv(name, raising=False)
    try:
        plain_logs(logging.INFO)
        assert (os.environ["TQDM_DISABLE"], os.environ["TRANSFORMERS_VERBOSITY"]) == ("1", "error")
        assert {logging.getLogger(name).level for name in NOISY} == {logging.WARNING}
        assert {logging.getLogger(name).level for name in SILENT} == {logging.ERROR}
        plain_logs(logging.ERROR)
        assert {logging.getLogger(name).level for name in NOISY} == {logging.ERROR}
    finally:
        root.handlers[:], root.level = before
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
