"""Which layers a recipe may name, asked of a tiny model whose weights are not there."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.errors import ModelError
from components.train_lora.targets import require_targets

LAYERS = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def model(*, tied: bool = False) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.device("meta"):
        return LlamaForCausalLM(config)


@pytest.mark.parametrize(
    "targets",
    [
        "all-linear",
        ["q_proj"],
        ["q_proj", "down_proj"],
        ["self_attn.v_proj"],
        ["model.layers.1.mlp.up_proj"],
        ["embed_tokens"],
        r".*\.(q|k)_proj",
        r"model\.layers\.0\.mlp\.gate_proj",
    ],
)
def test_linear_layers_and_an_untied_embedding_can_be_trained(targets):
    require_targets(model(), targets, "base")


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (["qproj"], "there is no module 'qproj'"),
        (["q_proj", "nowhere"], "there is no module 'nowhere'"),
        (["proj"], "there is no module 'proj'"),  # a part of a name is none
        ("q_proj", "there is no module 'q_proj'"),  # a pattern is of the whole name
        (["lm_head"], "'lm_head' is the output layer"),
        (["self_attn"], r"'self_attn' is no linear layer \(LlamaAttention\)"),
        (["input_layernorm"], r"'input_layernorm' is no linear layer \(LlamaRMSNorm\)"),
        (r".*mlp.*", r"'\.\*mlp\.\*' is no linear layer"),
    ],
)
def test_other_modules_are_refused_with_the_layers_that_can_be_trained(targets, reason):
    with pytest.raises(ModelError, match=f"train.lora_target_modules on some/base: {reason}") as caught:
        require_targets(model(), targets, "some/base")
    assert str(caught.value).endswith(f"{LAYERS}, or all-linear")


def test_an_embedding_that_shares_its_weights_with_the_output_layer_is_refused():
    with pytest.raises(ModelError, match="'embed_tokens' is the embedding, whose weights are the output layer's too"):
        require_targets(model(tied=True), ["embed_tokens"], "base")


def test_a_text_that_is_no_pattern_is_refused():
    with pytest.raises(ModelError, match=r"train.lora_target_modules: '\(q' is no pattern .* list of names, or all-"):
        require_targets(model(), "(q", "base")
