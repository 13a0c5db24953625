"""The inputs of a run: its key, the fields of its record, and the rows that can be trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.artifacts.rows import row_id, write_rows
from components.errors import DataError
from components.modeling.token_loss import Example
from components.train_lora import inputs as module
from components.train_lora.config import LOGGING_AND_SAVING, STOPPING, TrainConfig
from components.train_lora.device import Device
from components.train_lora.inputs import TrainingInputs, load_inputs

BASE = BaseModelRef(address="/base", revision="r", weight_bytes=0)
CPU = Device("CPU", "float32", None, 1)


def row(text: str) -> Row:
    messages = [Message(role="user", content=text), Message(role="assistant", content="Yo")]
    return Row(id=row_id(messages), messages=messages)


def example(*supervised: bool) -> Example:
    return Example(list(range(len(supervised))), [i if is_in else -100 for i, is_in in enumerate(supervised)])


def inputs(**change: Any) -> TrainingInputs:
    made = TrainingInputs(
        BASE, None, "template", CPU, [row("a"), row("b")], [row("c")], [example(False, True)], [example(False, True)], 1
    )  # type: ignore[arg-type]
    return dataclasses.replace(made, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"base_model": BASE.model_copy(update={"revision": "other"})},
        {"template": "other"},
        {"device": dataclasses.replace(CPU, precision="bfloat16")},
        {"device": dataclasses.replace(CPU, quantization="nf4")},
        {"device": dataclasses.replace(CPU, n_processes=2)},
        {"rows": [row("b"), row("a")]},
        {"validation_rows": [row("d")]},
    ],
)
def test_what_changes_the_weights_changes_the_key(change):
    assert inputs(**change).run_key(TrainConfig(), "code") != inputs().run_key(TrainConfig(), "code")


@pytest.mark.parametrize(
    "change",
    [
        {"base_model": BASE.model_copy(update={"address": "/moved"})},
        {"device": dataclasses.replace(CPU, hardware="another CPU")},
        {"n_skipped": 7},
    ],
)
def test_what_does_not_change_the_weights_keeps_the_key(change):
    assert inputs(**change).run_key(TrainConfig(), "code") == inputs().run_key(TrainConfig(), "code")


def test_the_code_and_every_setting_but_those_of_saving_and_stopping_are_in_the_key():
    key = inputs().run_key(TrainConfig(), "code")
    assert inputs().run_key(TrainConfig(), "other") != key
    values: dict[str, Any] = {"lora_target_modules": ["q_proj"], "lr_scheduler_type": "cosine", "checkpoint": "best"}
    for name, value in TrainConfig().model_dump().items():
        if name == "base_quantization":  # the device's quantization is in the key instead
            continue
        other = values.get(name, 0.5 if isinstance(value, float) else not value if isinstance(value, bool) else 7)
        changed = inputs().run_key(TrainConfig.model_validate({name: other}), "code")
        assert (changed == key) == (name in LOGGING_AND_SAVING | STOPPING), name


def test_the_record_has_what_went_in():
    fields = inputs().record_fields()
    assert (fields["train_rows"], fields["skipped_rows"], fields["hardware"]) == (2, 1, "CPU")
    assert fields["base_model"] is BASE
    assert fields["data_fingerprint"] == inputs(validation=[]).record_fields()["data_fingerprint"]
    tokens = fields["validation_fingerprint"]
    assert tokens == inputs(validation_rows=[]).record_fields()["validation_fingerprint"]
    assert tokens != inputs(validation=[example(True, True)]).record_fields()["validation_fingerprint"]


@pytest.fixture
def tokenized(monkeypatch):
    """Tokenize rows into the given examples, of which some are refused; the lengths to which they were cut."""

    def prepare(whole: list[list[Example]], refused: dict[str, str] | None = None) -> None:
        def examples_of(base: Any, tokenizer: Any, template: str, rows: Any, max_length: int | None = None) -> Any:
            if max_length is None:
                return whole, refused or {}
            return [[e.cut(max_length) for e in own if e.cut(max_length).n_supervised] for own in whole], refused or {}

        monkeypatch.setattr(module, "examples_of", examples_of)

    return prepare


def tokenize(n_rows: int, max_length: int = 8) -> tuple[list[Example], int]:
    return module._tokenize(BASE, [row(str(i)) for i in range(n_rows)], None, "", max_length)  # type: ignore[arg-type]


def test_rows_without_a_supervised_token_are_skipped_and_counted(tokenized, caplog):
    short, long = example(False, True), example(*[False] * 9, True)
    tokenized([[short], [long], [short]])
    assert tokenize(3) == ([short, short], 1)
    assert caplog.messages == ["1 of 3 rows skipped: no token of the assistant is within max_length 8"]


def test_refused_rows_are_skipped_with_the_first_reason(tokenized, caplog):
    tokenized([[example(False, True)], [], []], {"id1": "no place", "id2": "other"})
    assert tokenize(3)[1] == 2
    (message,) = caplog.messages
    assert message.startswith("2 of 3 rows left out, the first: row id1")
    assert message.endswith("no place")


def test_when_all_rows_are_refused_the_first_reason_is_the_error(tokenized):
    tokenized([[], []], {"id1": "reason one", "id2": "reason two"})
    with pytest.raises(DataError, match=r"none of the 2 rows can be trained on: row id1 .*: reason one"):
        tokenize(2)


def test_when_no_row_is_long_enough_the_message_has_the_length_of_the_shortest_prompt(tokenized):
    tokenized([[example(*[False] * 30, True)], [example(*[False] * 12, True, True)]])
    with pytest.raises(DataError, match=r"train.max_length = 8 tokens: the shortest prompt takes 12; raise max_length"):
        tokenize(2)


def test_a_row_may_be_several_sequences(tokenized, caplog):
    caplog.set_level("INFO")
    short = example(False, True)
    tokenized([[short, short], [short]])
    assert tokenize(2) == ([short] * 3, 0)
    assert caplog.messages[0].startswith("2 rows are 3 sequences")


def test_without_validation_rows_the_message_says_what_they_are_for(base, tmp_path: Path):
    write_rows([row("a")], str(tmp_path / "train"))
    write_rows([], str(tmp_path / "validation"))
    with pytest.raises(DataError, match=rf"{tmp_path}/validation: holds no rows; training needs some to measure"):
        load_inputs(TrainConfig(), base, str(tmp_path / "train"), str(tmp_path / "validation"))
