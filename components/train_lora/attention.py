"""Attention over several conversations in one sequence without padding, none of which attends to another.

FlashAttention takes the bounds of the conversations as an argument. PyTorch's scaled dot-product attention would need a
dense mask, whose cost grows with the square of the whole sequence. Where FlashAttention is missing, on a GPU or a CPU,
it is called once for each conversation instead.
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
# Kinds of layers in which a mask, or the bounds, can separate conversations.
MASKABLE = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True)
class Attention:
    """The name of an implementation, the reason for it, and whether rows may share a sequence without padding."""

    name: str
    why: str
    padding_free: bool = True


def choose_attention(model: PreTrainedModel) -> Attention:
    """The implementation that fits the model and its device; it is logged."""
    chosen = _choose(model)
    log.info("attention %s%s: %s", chosen.name, "" if chosen.padding_free else ", rows padded", chosen.why)
    return chosen


def _choose(model: PreTrainedModel) -> Attention:
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= MASKABLE:
        stateful = ", ".join(sorted(kinds - MASKABLE))
        return Attention("sdpa", f"layers of the kind {stateful} carry state", padding_free=False)
    if getattr(config, "rope_parameters", None) is None:
        return Attention("sdpa", "the model has no rotary positions, by which rows are separated", padding_free=False)
    if torch.cuda.is_available() and find_spec("flash_attn") and torch.cuda.get_device_capability()[0] >= 8:
        return Attention(FLASH, "flash_attn is installed")
    if kinds == {"full_attention"} and not _has_windows(config):
        return Attention(BY_CONVERSATION, "FlashAttention 2 is not available")
    return Attention("sdpa", "the model has attention windows: a dense mask separates rows")


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Set the attention implementation of ``model`` to ``name``."""
    AttentionInterface.register(BY_CONVERSATION, attend_by_conversation)
    AttentionMaskInterface.register(BY_CONVERSATION, _no_mask)
    model.set_attn_implementation(name)


def with_sequence_bounds(inputs: dict[str, Any], name: str) -> dict[str, Any]:
    """The inputs of one flattened batch, with the bounds of its conversations in the form that ``name`` takes."""
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
    """Causal attention within each conversation; without lengths, each row of the batch is one conversation.

    Padding must be on the right: no token before it attends to it, and its outputs are not used.

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
    """Whether the model has sliding windows or soft caps."""
    windowed = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    return bool(windowed or getattr(config, "attn_logit_softcapping", None) is not None)


def _has_fused_gqa(query: torch.Tensor) -> bool:
    """Whether grouped-query attention has a fused kernel; without one it takes quadratic memory, as before Ampere."""
    return query.device.type != "cuda" or (
        torch.cuda.get_device_capability(query.device)[0] >= 8 and query.dtype != torch.float32
    )
