"""Perplexity of each row's answers under the base model."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from components.base_model import load_tokenizer, load_weights
from components.chat_template import template_of, tokenize_conversation
from components.contracts import BaseModelRef, Row
from components.errors import DataError
from components.token_loss import Example, row_losses

log = logging.getLogger(__name__)

BATCH_ROWS = 8
ROWS_AT_ONCE = 512


def perplexities(base_model: BaseModelRef, rows: Sequence[Row]) -> list[float]:
    """e to the mean loss over the assistant's tokens, one a row.

    Raises:
        DataError: torch is not installed here.
        ModelError: the base model cannot be loaded.
    """
    try:
        import torch
    except ImportError as error:
        raise DataError(
            "split.quality.min_perplexity and max_perplexity need torch, which is not installed here; run the step in "
            "the train image, or leave them out"
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = load_tokenizer(base_model)
    template = template_of(tokenizer, base_model.address)
    model = load_weights(base_model, "auto" if device == "cuda" else torch.float32)
    model.to(device)
    measured: list[float] = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[first : first + ROWS_AT_ONCE]
        examples = [Example(*tokenize_conversation(tokenizer, template, row.messages)) for row in block]
        losses = row_losses(model, examples, batch_size=BATCH_ROWS, pad_token_id=tokenizer.pad_token_id)
        measured += [loss.perplexity for loss in losses]
        log.info("row %d/%d perplexity measured", len(measured), len(rows))
    return measured
