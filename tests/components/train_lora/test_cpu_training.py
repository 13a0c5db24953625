"""What makes training on a CPU quick, against the plain way: same losses, same gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from components.modeling import cpu_linear
from components.modeling.base_model import load_weights
from components.modeling.cpu_linear import use_onednn
from components.modeling.token_loss import Example, gives_chosen_logits, token_loss
from components.train_lora.config import TrainConfig
from components.train_lora.cpu_lora import fuse_lora
from components.train_lora.device import choose_device
from components.train_lora.settings import to_peft
from components.train_lora.supervised_loss import supervised_loss
from tests.components.train_lora.training import run

pytestmark = pytest.mark.skipif(not cpu_linear.is_faster_here(), reason="oneDNN is used on x86-64 only")

IDS = torch.arange(3, 67)[None]  # (1, 64)


def test_training_takes_no_more_threads_than_the_quota_allows(base, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("components.modeling.cpu_linear.usable_cores", lambda: 1)
    try:
        torch.set_num_threads(3)
        assert choose_device(TrainConfig(), base).hardware.endswith(", 1 threads)")
        torch.set_num_threads(3)
        load_weights(base, torch.float32)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def with_adapter(base, **settings):
    """The base with an adapter that has moved: LoRA's B begins at zero, and then A has no gradient."""
    torch.manual_seed(0)
    model = get_peft_model(load_weights(base, torch.float32), to_peft(TrainConfig(lora_rank=4, **settings)))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def gradients(model, ids=IDS):
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def require_equal(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        assert torch.allclose(gradient, expected[1][name], rtol=1e-4, atol=1e-6), name


def plain(model):
    """The model without what this file is about."""
    for module in model.modules():
        module.__dict__.pop("forward", None)
        if isinstance(module, cpu_linear._Linear):
            module.__class__ = torch.nn.Linear
    return model


def test_a_fused_adapter_gives_the_loss_and_the_gradients_of_the_plain_one(base):
    model = with_adapter(base, lora_alpha=12)
    fuse_lora(model)
    fused = gradients(model)
    require_equal(fused, gradients(plain(model)))


def test_a_bias_counts_in_a_fused_adapter():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.Linear(40, 8))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["0", "1"], init_lora_weights=False))
    x = torch.randn(32, 24, requires_grad=True)
    expected = adapted(x)
    (before,) = torch.autograd.grad(expected.square().sum(), x)
    use_onednn(adapted)
    fuse_lora(adapted)
    found = adapted(x)
    (after,) = torch.autograd.grad(found.square().sum(), x)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(after, before, rtol=1e-4, atol=1e-4)


def test_dropout_a_disabled_adapter_and_a_few_rows_take_the_plain_way(base):
    model = with_adapter(base, lora_dropout=0.5)
    fuse_lora(model)
    torch.manual_seed(1)
    dropped = gradients(model)
    torch.manual_seed(1)
    require_equal(dropped, gradients(plain(model)))
    fuse_lora(model)
    with model.disable_adapter(), torch.no_grad():
        off = model(input_ids=IDS).logits
    assert torch.allclose(off, load_weights(base, torch.float32)(input_ids=IDS).logits, atol=1e-5)
    model.eval()
    few = gradients(model, IDS[:, :3])
    require_equal(few, gradients(plain(model), IDS[:, :3]))


def test_gradient_checkpointing_gives_the_same_gradients(base):
    model = with_adapter(base)
    fuse_lora(model)
    without = gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    require_equal(gradients(model), without)


def test_the_loss_of_chosen_positions_is_the_mean_over_supervised_tokens(base):
    model = load_weights(base, torch.float32)
    assert gives_chosen_logits(model)
    labels = IDS.clone()
    labels[:, :20] = -100
    labels[:, 30:40] = -100
    expected = model(input_ids=IDS, labels=labels).loss
    n_tokens = int((labels[:, 1:] != -100).sum())
    assert supervised_loss(model, {"input_ids": IDS, "labels": labels}, n_tokens).item() == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_a_model_that_gives_all_logits_only_is_measured_and_trained_the_same(base, rows, tmp_path, monkeypatch):
    chosen = run(base, rows, tmp_path / "chosen", max_steps=2)
    with_choice = token_loss(*_measured(base), batch_size=2, pad_token_id=0)
    forward = LlamaForCausalLM.forward

    def without_choice(self, input_ids=None, attention_mask=None, position_ids=None, labels=None, use_cache=None, **k):
        return forward(self, input_ids, attention_mask, position_ids, labels=labels, use_cache=use_cache, **k)

    monkeypatch.setattr(LlamaForCausalLM, "forward", without_choice)
    assert not gives_chosen_logits(load_weights(base, torch.float32))
    assert token_loss(*_measured(base), batch_size=2, pad_token_id=0).loss == pytest.approx(with_choice.loss, rel=1e-6)
    whole = run(base, rows, tmp_path / "whole", max_steps=2)
    assert [*_losses(tmp_path / "whole")] == pytest.approx([*_losses(tmp_path / "chosen")], rel=1e-5)
    assert (whole.steps, whole.final_eval_loss) == (2, pytest.approx(chosen.final_eval_loss, rel=1e-5))


def _measured(base):
    ids = IDS[0].tolist()
    examples = [Example(ids[:n], [-100] * 5 + ids[5:n]) for n in (20, 31, 64)]
    return load_weights(base, torch.float32), examples


def _losses(folder: Path):
    for line in (folder / "adapter" / "history.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "loss" in entry:
            yield entry["loss"]
