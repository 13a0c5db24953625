"""Sizes of the files that a run makes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.artifacts.contracts import Quantization
from components.export_gguf.config import ExportConfig
from components.runtime.disk_space import required_bytes
from components.train_lora.config import TrainConfig
from pipelines.estimate.shape import ModelShape, Tensor

# Bytes a weight of GGUF's types, and of those that take their place where a row is no multiple of 256.
TYPE_BYTES = {
    "F32": 4.0, "F16": 2.0, "Q8_0": 34 / 32, "Q6_K": 210 / 256, "Q5_K": 176 / 256, "Q4_K": 144 / 256,
    "Q5_1": 24 / 32, "Q5_0": 22 / 32,
}  # fmt: skip
INSTEAD = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0"}
# Tokens, their types and their merges in a file's vocabulary; seen: 1.86 MB for 49,152 tokens.
VOCABULARY_BYTES_A_TOKEN = 38
TOKENIZER_BYTES_A_TOKEN = 100
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Sizes:
    """Bytes of what a run makes. ``checkpoints`` are all that are kept together; ``disk`` is the peak of the export."""

    adapter: int
    checkpoints: int
    merged: int
    f16: int
    model: int
    disk: int


def sizes_of(shape: ModelShape, train: TrainConfig, export: ExportConfig, weight_bytes: int) -> Sizes:
    """The sizes of a run's files."""
    n_lora = shape.n_lora(train.lora_rank, train.lora_target_modules)
    tokenizer = TOKENIZER_BYTES_A_TOKEN * shape.vocab_size
    adapter = 4 * n_lora + tokenizer
    # A checkpoint has Adam's two numbers for each that is trained as well; each kept one may have a best one beside it.
    checkpoints = train.save_total_limit * (adapter + 8 * n_lora + adapter)
    disk = checkpoints + required_bytes(weight_bytes or shape.stored_bytes)
    return Sizes(
        adapter=adapter,
        checkpoints=checkpoints,
        merged=shape.stored_bytes,
        f16=gguf_bytes(shape, "F16"),
        model=gguf_bytes(shape, export.quantization),
        disk=disk,
    )


def gguf_bytes(shape: ModelShape, quantization: Quantization) -> int:
    """The size of a GGUF file: the types of its tensors are chosen as llama.cpp chooses them."""
    weights = sum(tensor.n_weights * TYPE_BYTES[_type(tensor, shape, quantization)] for tensor in shape.tensors)
    return round(weights) + VOCABULARY_BYTES_A_TOKEN * shape.vocab_size


def _type(tensor: Tensor, shape: ModelShape, quantization: Quantization) -> str:
    if len(tensor.shape) < 2:
        return "F32"
    wanted = _wanted(tensor, shape, quantization)
    return INSTEAD.get(wanted, wanted) if tensor.shape[-1] % 256 else wanted


def _wanted(tensor: Tensor, shape: ModelShape, quantization: Quantization) -> str:
    """The type by the tensor's part, for rows that are a multiple of 256."""
    if quantization in ("F16", "Q8_0", "Q6_K"):
        return quantization
    plain = quantization.removesuffix("_M")
    if _is_output(tensor, shape):
        return "Q6_K"
    if any(part in tensor.name for part in ("v_proj", "down_proj", "attn_v", "ffn_down")):
        found = _LAYER.search(tensor.name)
        return "Q6_K" if found is not None and _has_more_bits(int(found[1]), shape.n_layers) else plain
    return plain


def _is_output(tensor: Tensor, shape: ModelShape) -> bool:
    """Whether it is the output layer; without one of its own the embedding is."""
    has_own = any("lm_head" in one.name for one in shape.tensors)
    return "lm_head" in tensor.name if has_own else "embed_tokens" in tensor.name or "wte" in tensor.name


def _has_more_bits(layer: int, n_layers: int) -> bool:
    """Whether llama.cpp gives the layer's values more bits: the first and last eighth, and every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
