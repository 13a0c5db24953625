"""Training from rows to an adapter folder: what is written, what is supervised, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from components.artifacts.contracts import BaseModelRef
from components.artifacts.rows import read_rows, write_rows
from components.artifacts.run_record import read_record
from components.errors import DataError, LorryError, ModelError
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.modeling.token_loss import token_loss
from tests.components.train_lora.training import run


def test_a_run_leaves_adapter_tokenizer_history_and_record(undisturbed):
    names = {path.name for path in (undisturbed / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "history.jsonl", "run.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}
    record = read_record(str(undisturbed / "adapter"))
    assert (record.steps, record.adapter_step, record.train_rows, record.skipped_rows) == (6, 6, 20, 0)
    assert 0 < record.trainable_parameters < record.total_parameters
    assert record.final_eval_loss is not None
    assert record.base_eval_loss is not None
    assert record.best_eval_loss is not None
    assert record.best_eval_loss <= record.final_eval_loss


def test_the_history_has_every_step_with_loss_rate_and_validation(undisturbed):
    entries = [json.loads(line) for line in (undisturbed / "adapter" / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in entries if "eval_loss" in entry] == [0, 2, 4, 6]
    assert all(entry["tokens_per_second"] > 0 for entry in entries if "loss" in entry)


def test_lora_is_on_every_linear_layer_and_on_nothing_else(undisturbed):
    config = json.loads((undisturbed / "adapter" / "adapter_config.json").read_text())
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == linear
    assert config["modules_to_save"] is None


def test_the_validation_loss_is_the_mean_over_supervised_tokens(base, rows):
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    model = load_weights(base, torch.float32)
    examples = [sequences_of(tokenizer, template, row)[0] for row in read_rows(str(rows / "validation"))]
    total, n_tokens = 0.0, 0
    for example in examples:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].log_softmax(-1)
        for position, label in enumerate(example.labels[1:]):
            if label != -100:
                total -= logits[position, label].item()
                n_tokens += 1
    measured = token_loss(model, examples, batch_size=3, pad_token_id=tokenizer.pad_token_id)
    assert measured.n_tokens == n_tokens == sum(example.n_supervised for example in examples)
    assert measured.loss == pytest.approx(total / n_tokens, rel=1e-5)


def test_only_supervised_tokens_move_the_weights(base, rows, tmp_path):
    """Other words of the user give other bytes; the loss at step 1 counts the assistant's tokens alone."""
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    set_seed(0)
    model = load_weights(base, torch.float32)
    examples = [sequences_of(tokenizer, template, row)[0] for row in read_rows(str(rows / "train"))]
    longest = max(len(example.input_ids) for example in examples)
    run(
        base,
        rows,
        tmp_path,
        max_steps=1,
        per_device_train_batch_size=20,
        gradient_accumulation_steps=1,
        max_length=longest,
    )
    history = [json.loads(line) for line in (tmp_path / "adapter" / "history.jsonl").read_text().splitlines()]
    expected = token_loss(model, examples, batch_size=4, pad_token_id=tokenizer.pad_token_id).loss
    assert next(entry["loss"] for entry in history if "loss" in entry) == pytest.approx(expected, rel=1e-3)


def test_other_validation_rows_are_another_run(base, rows, tmp_path):
    other = tmp_path / "rows"
    other.mkdir()
    (other / "train").write_bytes((rows / "train").read_bytes())
    write_rows(read_rows(str(rows / "validation"))[:2], str(other / "validation"))
    first = run(base, rows, tmp_path, max_steps=1)
    assert run(base, other, tmp_path, max_steps=1).run_key != first.run_key


def test_a_row_whose_answer_is_cut_away_is_counted_and_all_of_them_are_an_error(base, rows, tmp_path):
    with pytest.raises(DataError, match=r"20 rows has a token of the assistant within train.max_length = 5"):
        run(base, rows, tmp_path, max_length=5)
    assert run(base, rows, tmp_path, max_length=40, max_steps=1).skipped_rows > 0


def test_a_base_model_that_cannot_be_loaded_is_named(rows, tmp_path):
    with pytest.raises(ModelError, match="base_model /nowhere: no such folder; correct the address"):
        run(BaseModelRef(address="/nowhere", revision="x", weight_bytes=0), rows, tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=f"base_model {empty}: its tokenizer cannot be loaded"):
        run(BaseModelRef(address=str(empty), revision=folder_revision(empty), weight_bytes=0), rows, tmp_path)


def test_a_base_model_that_was_changed_after_the_recipe_was_resolved_is_refused(tiny_base, base, rows, tmp_path):
    changed = Path(shutil.copytree(tiny_base, tmp_path / "changed"))
    (changed / "config.json").write_text((changed / "config.json").read_text() + "\n")
    with pytest.raises(ModelError, match=f"base_model {changed}: its files have the digest .*, not {base.revision}"):
        run(base.model_copy(update={"address": str(changed)}), rows, tmp_path)


def test_no_validation_rows_is_an_error_that_says_what_they_are_for(base, rows, tmp_path):
    (tmp_path / "train").write_bytes((rows / "train").read_bytes())
    write_rows([], str(tmp_path / "validation"))
    with pytest.raises(DataError, match="holds no rows; training needs some to measure, and to stop early by"):
        run(base, tmp_path, tmp_path, early_stopping_patience=1)


def test_a_machine_without_memory_says_what_to_lower_and_by_how_much(base, rows, tmp_path, monkeypatch):
    words = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr("components.train_lora.trainer.LoraTrainer.training_step", fail)
    cases = [
        ({}, r"set train.per_device_train_batch_size 1 \(it is 2\) and gradient_accumulation_steps 4 \(it is 2\)"),
        ({"per_device_train_batch_size": 3}, r"set .*batch_size 1 \(it is 3\) and gradient_accumulation_steps 6"),
        ({"per_device_train_batch_size": 1}, "set train.gradient_checkpointing true"),
        ({"per_device_train_batch_size": 1, "gradient_checkpointing": True}, r"set train.max_length 48 \(it is 96\)"),
    ]
    for settings, message in cases:
        with pytest.raises(LorryError, match=f"out of memory on CPU .*: {message}"):
            run(base, rows, tmp_path, **settings)


def test_a_validation_without_memory_says_what_to_lower(base, rows, tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("components.train_lora.trainer.token_loss", fail)
    message = r"while the validation rows were measured; set train.per_device_eval_batch_size 4 \(it is 8\)"
    with pytest.raises(LorryError, match=message):
        run(base, rows, tmp_path)


def test_a_row_that_the_template_refuses_is_named(base, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("components.train_lora.inputs.template_of", lambda *_: "{{ raise_exception('no such talk') }}")
    with pytest.raises(DataError, match=r"row [0-9a-f]{32} .*row outcomes name its source.*refuses.*no such talk"):
        run(base, rows, tmp_path)


def test_what_the_device_computes_in_and_why_is_logged(base, rows, tmp_path, caplog):
    caplog.set_level("INFO")
    run(base, rows, tmp_path, max_steps=1)
    assert "computing in float32 (the fastest on a CPU), base weights in float32 (nothing asks" in caplog.text
    assert "attention sdpa_by_conversation: FlashAttention 2 is not available" in caplog.text
