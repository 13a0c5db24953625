"""The record of a run in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import RUN_RECORD_NAME, BaseModelRef, RunRecord
from components.artifacts.run_record import read_record, write_record
from components.errors import ModelError

RECORD = RunRecord(
    run_key="k", base_model=BaseModelRef(address="b", revision="r", weight_bytes=1), train={"max_length": 8},
    data_fingerprint="d", validation_fingerprint="v", code_fingerprint="c", template_fingerprint="t",
    versions={"torch": "2"}, seed=0, hardware="CPU", precision="float32", train_rows=2, skipped_rows=0,
    trainable_parameters=1, total_parameters=2, steps=3, max_steps=3, minutes=0.5, tokens_per_second=10.0,
    base_eval_loss=4.0, best_eval_loss=3.0, best_step=2, final_eval_loss=3.1, adapter_step=3, checkpoint="final",
)  # fmt: skip


def test_a_record_is_read_as_it_was_written_and_a_later_one_replaces_it(tmp_path):
    write_record(RECORD, tmp_path)
    assert read_record(str(tmp_path)) == RECORD
    failed = RECORD.model_copy(update={"status": "diverged", "reason": "lower it", "stopped_by": None})
    write_record(failed, tmp_path)
    assert read_record(str(tmp_path)) == failed
    assert [path.name for path in tmp_path.iterdir()] == [RUN_RECORD_NAME], "no temporary file is left"


def write(folder: Path, text: str) -> str:
    (folder / RUN_RECORD_NAME).write_text(text)
    return str(folder)


def changed(**change: Any) -> str:
    return json.dumps({**json.loads(RECORD.model_dump_json()), **change})


def test_a_folder_without_a_record_is_no_finished_training(tmp_path):
    with pytest.raises(ModelError, match=rf"{tmp_path}/run.json: no such file; this is not an adapter folder"):
        read_record(str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_file_that_is_no_document_says_to_train_again(tmp_path, text):
    with pytest.raises(ModelError, match=r"run.json: cannot be read .*; train again"):
        read_record(write(tmp_path, text))


@pytest.mark.parametrize(("change", "found"), [({"schema_version": 1}, 1), ({"schema_version": None}, None)])
def test_another_schema_version_is_named(tmp_path, change, found):
    with pytest.raises(ModelError, match=f"schema version {found}, and this version of Lorry reads 2; train again"):
        read_record(write(tmp_path, changed(**change)))


@pytest.mark.parametrize(
    ("change", "key"),
    [({"steps": "many"}, "steps"), ({"base_model": {"address": "b"}}, "base_model.revision"), ({"x": 1}, "x")],
)
def test_a_wrong_value_is_named_with_its_key(tmp_path, change, key):
    with pytest.raises(ModelError, match=rf"run.json: {key}: .*; train again with this version of Lorry"):
        read_record(write(tmp_path, changed(**change)))
