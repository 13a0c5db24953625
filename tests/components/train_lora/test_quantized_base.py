"""Training on a base in 4 bits (QLoRA)."""

from __future__ import annotations

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open

from components.artifacts.rows import read_rows
from components.modeling.base_model import load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import sequences_of
from components.modeling.token_loss import token_loss
from components.train_lora.config import TrainConfig
from components.train_lora.settings import to_peft
from tests.components.train_lora.training import run


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
