"""Training: two real steps of a tiny model, what is supervised, where it ends."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from transformers import set_seed

from components.artifacts.contracts import BaseModelRef
from components.artifacts.rows import read_rows, write_rows
from components.artifacts.run_record import read_record
from components.errors import DataError, LorryError, ModelError
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.modeling.token_loss import token_loss
from components.train_lora.attention import (
    BY_CONVERSATION,
    FLASH,
    choose_attention,
    use_attention,
    with_sequence_bounds,
)
from components.train_lora.config import TrainConfig
from components.train_lora.history import History
from components.train_lora.processes import train_distributed
from components.train_lora.settings import to_peft
from tests.components.train_lora.training import SETTINGS, losses, run, weights


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


def test_every_attention_gives_a_packed_row_the_logits_that_it_has_alone(base, rows):
    """Tolerance 1e-4 of logits of about 1 to 10, in float32: rows of one sequence are computed in other blocks."""
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    ids = [sequences_of(tokenizer, template, row)[0].input_ids for row in read_rows(str(rows / "train"))[:5]]
    positions = torch.tensor([[position for row in ids for position in range(len(row))]])
    packed = {"input_ids": torch.tensor([[token for row in ids for token in row]]), "position_ids": positions}
    present = [BY_CONVERSATION, "sdpa", "eager", *([FLASH] if find_spec("flash_attn") else [])]
    for attention in present:
        model = load_weights(base, torch.float32).eval()
        with torch.no_grad():
            alone = torch.cat([model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in ids])
            use_attention(model, attention)
            together = model(**with_sequence_bounds(packed, attention), use_cache=False).logits[0]
        assert (together - alone).abs().max() < 1e-4, attention


def test_attention_by_conversation_gives_padded_rows_the_logits_that_they_have_alone(base, rows):
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    examples = [sequences_of(tokenizer, template, row)[0] for row in read_rows(str(rows / "train"))[:6]]
    model = load_weights(base, torch.float32)
    measured = [
        token_loss(model, examples, batch_size=1, pad_token_id=tokenizer.pad_token_id).loss,
        use_attention(model, BY_CONVERSATION) or token_loss(model, examples, batch_size=6, pad_token_id=0).loss,
    ]
    assert measured[0] == pytest.approx(measured[1], rel=1e-5)


def test_a_model_with_windows_keeps_its_own_attention(base):
    model = load_weights(base, torch.float32)
    assert choose_attention(model).name == BY_CONVERSATION
    model.config.sliding_window = 64
    assert (choose_attention(model).name, choose_attention(model).padding_free) == ("sdpa", True)


def test_rows_of_a_model_whose_layers_carry_state_are_padded_and_not_packed(base, rows, tmp_path, monkeypatch, caplog):
    """No mask keeps one row's state from the next in such a layer."""
    caplog.set_level("INFO")
    monkeypatch.setattr("components.train_lora.attention.MASKABLE", {"sliding_attention"})
    with pytest.raises(ModelError, match=r"train.packing: not with .*: layers of the kind full_attention carry state"):
        run(base, rows, tmp_path, packing=True)
    padded = run(base, rows, tmp_path, max_steps=2)
    assert "attention sdpa, rows padded: layers of the kind full_attention carry state" in caplog.text
    monkeypatch.undo()
    flat = run(base, rows, tmp_path / "flat", max_steps=2)
    assert padded.final_eval_loss == pytest.approx(flat.final_eval_loss, rel=1e-4)


def test_packing_trains_on_every_supervised_token(base, rows, tmp_path):
    record = run(base, rows, tmp_path, packing=True, max_length=256, per_device_train_batch_size=1, max_steps=2)
    assert record.final_eval_loss is not None
    assert record.base_eval_loss is not None
    assert record.final_eval_loss < record.base_eval_loss


def test_the_best_weights_are_exported_when_the_recipe_asks(base, rows, tmp_path, undisturbed):
    record = run(base, rows, tmp_path, checkpoint="best", learning_rate=0.5, max_steps=8)
    assert record.best_step is not None
    assert record.adapter_step == record.best_step
    if record.best_step != record.steps:
        best = next(
            (tmp_path / "checkpoints").glob(f"*/best-{record.best_step}/adapter_model.safetensors")
        ).read_bytes()
        assert weights(tmp_path) == best
    assert record.run_key != read_record(str(undisturbed / "adapter")).run_key


def test_asking_for_the_best_weights_afterwards_trains_nothing_again(base, rows, tmp_path):
    first = run(base, rows, tmp_path)
    again = run(base, rows, tmp_path, checkpoint="best")
    assert again.run_key == first.run_key
    assert again.adapter_step == again.best_step
    best = next((tmp_path / "checkpoints").glob(f"*/best-{again.best_step}/adapter_model.safetensors")).read_bytes()
    assert weights(tmp_path) == best


def test_a_finished_run_asked_again_keeps_its_last_step_and_its_bytes(base, rows, tmp_path):
    """In the middle of an epoch and at a constant rate, where one step more would show."""
    settings = {"max_steps": 3, "lr_scheduler_type": "constant", "warmup_steps": 0, "save_steps": 1}
    first = run(base, rows, tmp_path, **settings)
    before = weights(tmp_path)
    again = run(base, rows, tmp_path, **settings)
    assert weights(tmp_path) == before
    assert (again.steps, again.adapter_step, again.final_eval_loss) == (3, 3, first.final_eval_loss)


def test_other_validation_rows_are_another_run(base, rows, tmp_path):
    other = tmp_path / "rows"
    other.mkdir()
    (other / "train").write_bytes((rows / "train").read_bytes())
    write_rows(read_rows(str(rows / "validation"))[:2], str(other / "validation"))
    first = run(base, rows, tmp_path, max_steps=1)
    assert run(base, other, tmp_path, max_steps=1).run_key != first.run_key


def test_a_row_whose_answer_is_cut_away_is_counted_and_all_of_them_are_an_error(base, rows, tmp_path):
    with pytest.raises(DataError, match=r"none of the 20 rows has a word of the assistant within train.max_length = 5"):
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


def test_a_pod_with_a_gpu_that_torch_does_not_see_does_not_train_on_its_processor(base, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("LORRY_GPUS", "1")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(
        LorryError, match=r"this step was given 1 GPU\(s\), and torch .* sees none: use a train image with"
    ):
        run(base, rows, tmp_path)


# Where training ends


def test_early_stopping_ends_after_so_many_validations_without_improvement_and_stays_ended(base, rows, tmp_path):
    settings = {"learning_rate": 0.5, "max_steps": 40, "early_stopping_patience": 2}
    record = run(base, rows, tmp_path, **settings)
    assert record.stopped_by == "early_stopping"
    measured = [loss for _, _, loss in losses(tmp_path) if loss is not None]
    assert min(measured) < min(measured[-2:])
    assert (record.steps, len(measured)) == (2 * (len(measured) - 1), record.steps // 2 + 1)
    before = weights(tmp_path)
    assert run(base, rows, tmp_path, **settings).steps == record.steps
    assert weights(tmp_path) == before


def test_a_run_that_stopped_early_goes_on_with_more_patience_and_ends_as_one_that_never_stopped(base, rows, tmp_path):
    settings = {"learning_rate": 0.5, "max_steps": 8}
    stopped = run(base, rows, tmp_path, **settings, early_stopping_patience=1)
    assert stopped.steps < 8
    assert run(base, rows, tmp_path, **settings).stopped_by == "steps"
    run(base, rows, tmp_path / "whole", **settings)
    assert weights(tmp_path) == weights(tmp_path / "whole")


def test_max_train_minutes_ends_with_a_validation_and_a_checkpoint(base, rows, tmp_path):
    record = run(base, rows, tmp_path, max_steps=100_000, max_train_minutes=0.03, eval_steps=1000, save_steps=1000)
    assert record.stopped_by == "max_train_minutes"
    assert 0 < record.steps < 100_000
    assert record.final_eval_loss is not None
    assert list(tmp_path.glob(f"checkpoints/*/checkpoint-{record.steps}"))


def test_no_validation_rows_is_an_error_that_says_what_they_are_for(base, rows, tmp_path):
    (tmp_path / "train").write_bytes((rows / "train").read_bytes())
    write_rows([], str(tmp_path / "validation"))
    with pytest.raises(DataError, match="holds no rows; training needs some to measure, and to stop early by"):
        run(base, tmp_path, tmp_path, early_stopping_patience=1)


def test_tensorboard_files_hold_the_history_where_the_recipe_asks(base, rows, tmp_path):
    run(base, rows, tmp_path, tensorboard=True)
    files = list(tmp_path.glob("checkpoints/*/tensorboard/events.out.tfevents.*"))
    assert len(files) == 1
    content = files[0].read_bytes()
    assert content.count(b"train/loss") == 6
    assert content.count(b"eval/loss") == 4


# Four bits


def test_two_steps_on_a_4_bit_base_train_a_float32_adapter(base, rows, tmp_path):
    record = run(base, rows, tmp_path, base_quantization="nf4", max_steps=2)
    assert (record.base_quantization, record.precision) == ("nf4", "float32")
    assert record.base_eval_loss is not None
    assert record.final_eval_loss is not None
    assert record.final_eval_loss < record.base_eval_loss
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", framework="pt") as adapter:
        assert {adapter.get_tensor(name).dtype for name in adapter.keys()} == {torch.float32}  # noqa: SIM118
    full = run(base, rows, tmp_path / "full", max_steps=2)
    assert full.total_parameters == record.total_parameters
    assert full.run_key != record.run_key


def test_a_4_bit_base_gives_the_gradients_of_its_values_after_an_evaluation_too(base, rows):
    """Against a float32 base that holds the very values of the 4-bit weights."""
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    examples = [sequences_of(tokenizer, template, row)[0] for row in read_rows(str(rows / "train"))[:4]]
    four_bit = load_weights(base, torch.float32, "nf4")
    with_values = load_weights(base, torch.float32)
    for name, module in with_values.named_modules():
        packed = four_bit.get_submodule(name)
        if isinstance(packed, Linear4bit):
            module.weight.data = dequantize_4bit(packed.weight.data, packed.weight.quant_state)
    models = [get_peft_model(model, to_peft(TrainConfig(lora_rank=4))) for model in (four_bit, with_values)]
    set_peft_model_state_dict(models[1], get_peft_model_state_dict(models[0]))
    for evaluates_first in (False, True):
        for model in models:
            if evaluates_first:
                token_loss(model, examples, batch_size=4, pad_token_id=tokenizer.pad_token_id)
            model.train().zero_grad()
            ids, labels = torch.tensor([examples[0].input_ids]), torch.tensor([examples[0].labels])
            model(input_ids=ids, labels=labels).loss.backward()
        expected = {name: p.grad for name, p in models[1].named_parameters() if p.grad is not None}
        found = {name: p.grad for name, p in models[0].named_parameters() if p.grad is not None}
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-6), (name, evaluates_first)
        # LoRA's B begins at zero, and then A has no gradient: the second round is of a model that has moved.
        for model in models:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:
                        parameter.add_(0.01)


def test_nf4_without_bitsandbytes_is_an_error_that_says_what_to_do(base, rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"train.base_quantization = 'nf4' needs bitsandbytes, and .*; install it"):
        run(base, rows, tmp_path, base_quantization="nf4")


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


def test_a_validation_loss_that_is_no_number_is_never_the_best(tmp_path):
    history = History(tmp_path / "history.jsonl", None, writes=True)
    for step, loss in ((0, 7.0), (1, float("nan")), (2, 6.0), (3, 6.5)):
        history.add(step=step, eval_loss=loss)
    assert history.best() == (2, 6.0)


def test_a_row_that_the_template_refuses_is_named(base, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("components.train_lora.inputs.template_of", lambda *_: "{{ raise_exception('no such talk') }}")
    with pytest.raises(DataError, match=r"row [0-9a-f]{32} .*row outcomes name its source.*refuses.*no such talk"):
        run(base, rows, tmp_path)


def test_what_the_device_computes_in_and_why_is_logged(base, rows, tmp_path, caplog):
    caplog.set_level("INFO")
    run(base, rows, tmp_path, max_steps=1)
    assert "computing in float32 (the fastest on a CPU), base weights in float32 (nothing asks" in caplog.text
    assert "attention sdpa_by_conversation: FlashAttention 2 is not available" in caplog.text


# Several processes


def test_two_processes_take_the_steps_that_one_takes_and_resume(base, rows, tmp_path):
    settings = {**SETTINGS, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "max_steps": 4}
    one = run(base, rows, tmp_path / "one", **settings)
    job = {
        "config": TrainConfig.model_validate({**settings, "per_device_train_batch_size": 1}).model_dump(mode="json"),
        "base_model": base.model_dump(mode="json"),
        "code": "test",
        "checkpoint_root": str(tmp_path / "two" / "checkpoints"),
        "train_path": str(rows / "train"),
        "validation_path": str(rows / "validation"),
        "adapter_path": str(tmp_path / "two" / "adapter"),
    }
    train_distributed(2, job)
    two = read_record(str(tmp_path / "two" / "adapter"))
    assert (two.steps, two.run_key == one.run_key) == (4, False)
    alone, together = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [step for step, *_ in alone] == [step for step, *_ in together]
    for column in (1, 2):
        ours, theirs = (
            [entry[column] for entry in entries if entry[column] is not None] for entries in (together, alone)
        )
        assert ours == pytest.approx(theirs, rel=1e-4)
    before = weights(tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / two.run_key / "checkpoint-4")
    train_distributed(2, job)
    assert weights(tmp_path / "two") == before


def test_an_error_of_several_processes_is_that_of_the_first(base, rows, tmp_path):
    job = {"config": {**SETTINGS, "max_length": 5}, "base_model": base.model_dump(mode="json"), "code": "test"}
    job |= {"checkpoint_root": str(tmp_path), "adapter_path": str(tmp_path / "adapter")}
    job |= {"train_path": str(rows / "train"), "validation_path": str(rows / "validation")}
    with pytest.raises(
        LorryError, match=r"none of the 20 rows has a word of the assistant within train.max_length = 5"
    ):
        train_distributed(2, job)
