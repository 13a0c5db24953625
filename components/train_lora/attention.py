"""Attention over several conversations in one sequence, none of which sees another.

FlashAttention takes the bounds of the conversations by itself. PyTorch's scaled dot-product attention would need a
dense mask, whose cost grows with the square of the whole sequence; here it is called once a conversation instead, on a
GPU without FlashAttention as on a CPU.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

BY_CONVERSATION = "sdpa_by_conversation"
FLASH = "flash_attention_2"
LENGTHS = "conversation_lengths"
# Layers in which a mask, or bounds, keep rows apart.
MASKABLE = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True)
class Attention:
    """An implementation by its name, why it was chosen, and whether rows may lie in one sequence without padding."""

    name: str
    why: str
    flat: bool = True


def choose_attention(model: PreTrainedModel) -> Attention:
    """Which attention fits the model and its device; logged."""
    chosen = _choose(model)
    log.info("attention %s%s: %s", chosen.name, "" if chosen.flat else ", rows padded", chosen.why)
    return chosen


def _choose(model: PreTrainedModel) -> Attention:
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= MASKABLE:
        return Attention("sdpa", f"layers of the kind {', '.join(sorted(kinds - MASKABLE))} carry state", flat=False)
    if getattr(config, "rope_parameters", None) is None:
        return Attention("sdpa", "the model has no rotary positions to tell rows apart by", flat=False)
    if torch.cuda.is_available() and find_spec("flash_attn") and torch.cuda.get_device_capability()[0] >= 8:
        return Attention(FLASH, "flash_attn is installed")
    if kinds == {"full_attention"} and not _has_windows(config):
        return Attention(BY_CONVERSATION, "no FlashAttention 2 here")
    return Attention("sdpa", "the model has attention windows of its own: rows are kept apart by a dense mask")


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Let ``model`` attend by the implementation ``name``."""
    AttentionInterface.register(BY_CONVERSATION, attend_by_conversation)
    AttentionMaskInterface.register(BY_CONVERSATION, _no_mask)
    model.set_attn_implementation(name)


def with_bounds(inputs: dict[str, Any], name: str) -> dict[str, Any]:
    """The inputs of one flattened batch, with what ``name`` needs to know of where conversations begin."""
    positions = inputs.get("position_ids")
    if positions is None or name == "sdpa":
        return inputs
    starts = (positions[0] == 0).nonzero().flatten()
    bounds = torch.cat([starts, starts.new_tensor([positions.shape[1]])]).to(torch.int32)
    lengths = bounds.diff()
    if name == BY_CONVERSATION:
        return {**inputs, LENGTHS: lengths.tolist()}
    longest = int(lengths.max())
    return {
        **inputs,
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def attend_by_conversation(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    conversation_lengths: list[int] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each conversation; without lengths, each row of the batch is one.

    Padding must be on the right: what comes before it does not see it, and what it gives is not used.

    query  # (batch, heads, seq, head_dim); key and value may have fewer heads
    returns  # (batch, seq, heads, head_dim)
    """
    lengths = conversation_lengths or [query.shape[2]]
    n_shared = query.shape[1] // key.shape[1]
    if n_shared > 1 and not _has_fused_gqa(query):
        key, value, n_shared = (*(one.repeat_interleave(n_shared, dim=1) for one in (key, value)), 1)
    queries, keys, values = (torch.split(whole, lengths, dim=2) for whole in (query, key, value))
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=n_shared > 1
        )
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def _has_windows(config: Any) -> bool:
    """Sliding windows or soft caps."""
    windowed = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    return bool(windowed or getattr(config, "attn_logit_softcapping", None) is not None)


def _has_fused_gqa(query: torch.Tensor) -> bool:
    """Whether fewer key heads than query heads cost no quadratic memory: a GPU before Ampere has no kernel for them."""
    return query.device.type != "cuda" or (
        torch.cuda.get_device_capability(query.device)[0] >= 8 and query.dtype != torch.float32
    )
