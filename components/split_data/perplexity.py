"""The perplexity of each row's answers under the base model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice

from components.artifacts.contracts import BaseModelRef, Row
from components.errors import DataError
from components.modeling.base_model import load_tokenizer, load_weights
from components.modeling.chat_template import template_of
from components.modeling.supervision import examples_of
from components.modeling.token_loss import mean_loss, row_losses

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
        examples, _ = examples_of(base_model, tokenizer, template, block)
        flat = [example for of_row in examples for example in of_row]
        losses = iter(row_losses(model, flat, batch_size=BATCH_ROWS, pad_token_id=tokenizer.pad_token_id))
        measured += [mean_loss(list(islice(losses, len(of_row)))).perplexity for of_row in examples]
        log.info("row %d/%d perplexity measured", len(measured), len(rows))
    return measured
