"""The recipe's settings as those of peft and trl."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.train_lora.config import TrainConfig
from components.train_lora.device import Device
from components.train_lora.settings import to_peft, to_trl

CPU = Device("CPU", "float32", None, 1)


def trl(folder: Path, device: Device = CPU, *, padding_free: bool = True, chosen_logits: bool = True, **settings):
    config = TrainConfig.model_validate(settings)
    return to_trl(config, device, folder, padding_free=padding_free, chosen_logits=chosen_logits)


def test_the_adapter_has_the_recipes_rank_scale_dropout_and_layers():
    config = TrainConfig(lora_rank=8, lora_alpha=32, lora_dropout=0.1, lora_target_modules=["q_proj"])
    made = to_peft(config)
    assert (made.r, made.lora_alpha, made.lora_dropout, made.target_modules) == (8, 32, 0.1, {"q_proj"})
    assert (made.bias, made.task_type) == ("none", "CAUSAL_LM")
    assert to_peft(TrainConfig()).target_modules == "all-linear"


@pytest.mark.parametrize(
    "name",
    [
        "learning_rate", "warmup_steps", "weight_decay", "max_grad_norm", "num_train_epochs", "max_steps",
        "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "eval_steps",
        "save_steps", "seed",
    ],
)  # fmt: skip
def test_settings_of_one_name_are_passed_on(tmp_path, name):
    value = 0.25 if name in ("learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs") else 7
    assert getattr(trl(tmp_path, **{name: value}), name) == value


def test_the_order_of_the_rows_follows_the_seed_too(tmp_path):
    assert trl(tmp_path, seed=5).data_seed == 5


def test_without_max_steps_the_epochs_count(tmp_path):
    assert trl(tmp_path).max_steps == -1


def test_rows_are_cut_by_trl_only_where_it_packs_them(tmp_path):
    assert trl(tmp_path, max_length=64).max_length is None
    packed = trl(tmp_path, max_length=64, packing=True)
    assert (packed.max_length, packed.packing, packed.eval_packing) == (64, True, False)


def test_a_model_with_padded_rows_is_not_padding_free(tmp_path):
    assert trl(tmp_path, padding_free=False).padding_free is False
    assert trl(tmp_path).padding_free is True


@pytest.mark.parametrize(("chosen_logits", "loss_type"), [(True, "nll"), (False, "chunked_nll")])
def test_trl_computes_the_loss_unless_lorry_does(tmp_path, chosen_logits, loss_type):
    assert trl(tmp_path, chosen_logits=chosen_logits).loss_type == loss_type


def test_a_cpu_trains_in_float32_without_pinned_memory(tmp_path):
    made = trl(tmp_path)
    assert (made.use_cpu, made.bf16, made.fp16, made.dataloader_pin_memory) == (True, False, False, False)


def test_nothing_is_reported_elsewhere_and_every_step_is_logged(tmp_path):
    made = trl(tmp_path, logging_steps=50)
    assert (made.logging_steps, made.report_to, made.disable_tqdm) == (1, [], True)
    assert made.logging_nan_inf_filter is False, "a loss that is not finite must reach the check for divergence"
