"""Rows that share a sequence or are padded: a model gives each row the logits that it has alone."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from components.artifacts.rows import read_rows
from components.errors import ModelError
from components.modeling.base_model import load_tokenizer, load_weights
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
from tests.components.train_lora.training import run


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
