"""Base models of known sizes as headers without weights, and the lengths of made-up data."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef
from pipelines.estimate.lengths import SplitLengths
from pipelines.estimate.shape import ModelShape, read_shape

SMOLLM2 = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
}  # fmt: skip
LLAMA_1B = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
}  # fmt: skip
LLAMA_3B = {
    "vocab_size": 128_256, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
    "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip


def write_header(folder: Path, config: dict[str, Any]) -> BaseModelRef:
    """A Llama's config and the header of its weights in bfloat16; the weights themselves are not in the file."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads, keys = (config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    tensors = {"model.embed_tokens.weight": [config["vocab_size"], width], "model.norm.weight": [width]}
    for layer in range(config["num_hidden_layers"]):
        block = {
            "self_attn.q_proj": [heads, width], "self_attn.k_proj": [keys, width], "self_attn.v_proj": [keys, width],
            "self_attn.o_proj": [width, heads], "mlp.gate_proj": [inner, width], "mlp.up_proj": [inner, width],
            "mlp.down_proj": [width, inner], "input_layernorm": [width], "post_attention_layernorm": [width],
        }  # fmt: skip
        tensors |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    header, offset = {}, 0
    for name, shape in tensors.items():
        n_bytes = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + n_bytes]}
        offset += n_bytes
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content)
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    return BaseModelRef(address=str(folder), revision="1", weight_bytes=offset)


@pytest.fixture(scope="session")
def shape_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], ModelShape]:
    """The shape of a Llama."""
    return lambda config: read_shape(write_header(tmp_path_factory.mktemp("base"), config))


def rows(n: int, tokens: int, supervised: int | None = None) -> SplitLengths:
    """``n`` sequences of one length."""
    return SplitLengths(n, (tokens,) * n, (tokens // 2 if supervised is None else supervised,) * n)
