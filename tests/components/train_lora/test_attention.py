"""Attention over several conversations in one sequence: which implementation is chosen, its inputs and its outputs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.train_lora import attention
from components.train_lora.attention import (
    BY_CONVERSATION,
    FLASH,
    LENGTHS,
    attend_by_conversation,
    choose_attention,
    with_sequence_bounds,
)

ROPE = {"rope_parameters": {"rope_theta": 10_000.0}}


def model(**config: Any) -> Any:
    return SimpleNamespace(config=SimpleNamespace(**config))


def gpu(monkeypatch: pytest.MonkeyPatch, major: int, *, flash: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, 0))
    monkeypatch.setattr(attention, "find_spec", lambda name: object() if flash and name == "flash_attn" else None)


@pytest.mark.parametrize(
    ("config", "name", "padding_free", "reason"),
    [
        (ROPE, BY_CONVERSATION, True, "FlashAttention 2 is not available"),
        ({**ROPE, "layer_types": ["full_attention"] * 2}, BY_CONVERSATION, True, "not available"),
        ({}, "sdpa", False, "no rotary positions"),
        ({**ROPE, "layer_types": ["full_attention", "conv"]}, "sdpa", False, "layers of the kind conv carry state"),
        ({**ROPE, "layer_types": ["sliding_attention", "full_attention"]}, "sdpa", True, "attention windows"),
        ({**ROPE, "sliding_window": 512}, "sdpa", True, "attention windows"),
        ({**ROPE, "sliding_window": 512, "use_sliding_window": False}, BY_CONVERSATION, True, "not available"),
        ({**ROPE, "attn_logit_softcapping": 50.0}, "sdpa", True, "attention windows"),
    ],
)
def test_the_attention_fits_the_model(monkeypatch, caplog, config, name, padding_free, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    caplog.set_level("INFO")
    chosen = choose_attention(model(**config))
    assert (chosen.name, chosen.padding_free) == (name, padding_free)
    assert reason in chosen.why
    padded = "" if padding_free else ", rows padded"
    assert caplog.messages == [f"attention {name}{padded}: {chosen.why}"]


@pytest.mark.parametrize(
    ("major", "flash", "name"),
    [(8, True, FLASH), (9, True, FLASH), (7, True, BY_CONVERSATION), (8, False, BY_CONVERSATION)],
)
def test_flash_attention_needs_its_package_and_a_gpu_with_bfloat16(monkeypatch, major, flash, name):
    gpu(monkeypatch, major, flash=flash)
    assert choose_attention(model(**ROPE)).name == name


def test_flash_attention_separates_rows_of_models_with_windows_too(monkeypatch):
    gpu(monkeypatch, 8, flash=True)
    assert choose_attention(model(**ROPE, sliding_window=512)).name == FLASH


POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 0]])


def test_each_implementation_gets_the_bounds_in_its_own_form():
    inputs = {"position_ids": POSITIONS, "input_ids": torch.ones(1, 6)}
    assert with_sequence_bounds(inputs, BY_CONVERSATION)[LENGTHS] == [3, 2, 1]
    flash = with_sequence_bounds(inputs, FLASH)
    assert flash["cu_seq_lens_q"].tolist() == flash["cu_seq_lens_k"].tolist() == [0, 3, 5, 6]
    assert flash["cu_seq_lens_q"].dtype is torch.int32
    assert (flash["max_length_q"], flash["max_length_k"]) == (3, 3)
    for name in (BY_CONVERSATION, FLASH):
        assert with_sequence_bounds(inputs, name)["input_ids"] is inputs["input_ids"]
    assert inputs.keys() == {"position_ids", "input_ids"}, "the batch itself is not changed"


def test_padded_rows_and_a_dense_mask_need_no_bounds():
    padded = {"input_ids": torch.ones(2, 6)}
    assert with_sequence_bounds(padded, BY_CONVERSATION) is padded
    dense = {"position_ids": POSITIONS}
    assert with_sequence_bounds(dense, "sdpa") is dense


def tensors(n_heads: int, n_key_heads: int, n_tokens: int, batch: int = 1) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    shapes = [(batch, heads, n_tokens, 8) for heads in (n_heads, n_key_heads, n_key_heads)]
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


def masked(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The same by one dense mask, each step written out: softmax(q k / sqrt(d)) v."""
    n_shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(n_shared, dim=1), value.repeat_interleave(n_shared, dim=1)
    blocks = torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~blocks, float("-inf")).softmax(-1)
    return (weights @ value).transpose(1, 2)  # (batch, seq, heads, head_dim)


@pytest.mark.parametrize("lengths", [[7], [3, 4], [1, 1, 5], [1] * 7])
@pytest.mark.parametrize(("n_heads", "n_key_heads"), [(2, 2), (4, 2), (4, 1)])
def test_it_equals_attention_by_a_mask_of_causal_blocks(lengths, n_heads, n_key_heads):
    query, key, value = tensors(n_heads, n_key_heads, 7)
    found, weights = attend_by_conversation(torch.nn.Module(), query, key, value, None, conversation_lengths=lengths)
    assert weights is None
    assert torch.allclose(found, masked(query, key, value, lengths))


def test_heads_are_repeated_where_the_gpu_has_no_kernel_for_shared_ones(monkeypatch):
    monkeypatch.setattr(attention, "_has_fused_gqa", lambda _: False)
    query, key, value = tensors(4, 2, 7)
    found, _ = attend_by_conversation(torch.nn.Module(), query, key, value, None, conversation_lengths=[3, 4])
    assert torch.allclose(found, masked(query, key, value, [3, 4]))


@pytest.mark.parametrize(
    ("device", "major", "dtype", "fused"),
    [("cpu", 0, torch.float32, True), ("cuda", 7, torch.float16, False), ("cuda", 8, torch.bfloat16, True),
     ("cuda", 8, torch.float32, False)],
)  # fmt: skip
def test_kernels_for_shared_heads_depend_on_the_gpu_and_the_type(monkeypatch, device, major, dtype, fused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, 0))
    query = SimpleNamespace(device=SimpleNamespace(type=device), dtype=dtype)
    assert attention._has_fused_gqa(query) is fused  # type: ignore[arg-type]


def test_without_lengths_each_row_of_the_batch_is_one_conversation():
    query, key, value = tensors(2, 2, 5, batch=3)
    found, _ = attend_by_conversation(torch.nn.Module(), query, key, value, None)
    assert torch.allclose(found, masked(query, key, value, [5]))


def test_padding_on_the_right_changes_nothing_before_it():
    query, key, value = tensors(2, 2, 6)
    whole, _ = attend_by_conversation(torch.nn.Module(), query, key, value, None)
    short, _ = attend_by_conversation(torch.nn.Module(), query[:, :, :4], key[:, :, :4], value[:, :, :4], None)
    assert torch.allclose(whole[:, :4], short)


def test_the_scale_of_the_model_is_used():
    query, key, value = tensors(2, 2, 5)
    found, _ = attend_by_conversation(torch.nn.Module(), query, key, value, None, scaling=1e-12)
    means = value.cumsum(2) / torch.arange(1, 6)[:, None]  # with almost equal weights
    assert torch.allclose(found, means.transpose(1, 2))
