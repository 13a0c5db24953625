"""The inputs of a run: tokenizer, chat template and device, and the rows as token sequences."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, Row
from components.artifacts.rows import data_fingerprint, read_rows
from components.errors import DataError
from components.modeling.base_model import load_tokenizer
from components.modeling.chat_template import fingerprint, template_of
from components.modeling.supervision import examples_of
from components.modeling.token_loss import Example
from components.train_lora import checkpoints
from components.train_lora.config import LOGGING_AND_SAVING, STOPPING, TrainConfig
from components.train_lora.device import Device, choose_device

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingInputs:
    """What a run reads before it trains. ``n_skipped`` rows have no supervised token within ``max_length``."""

    base_model: BaseModelRef
    tokenizer: PreTrainedTokenizerBase
    template: str
    device: Device
    rows: list[Row]
    validation_rows: list[Row]
    examples: list[Example]
    validation: list[Example]
    n_skipped: int

    def run_key(self, config: TrainConfig, code: str) -> str:
        """The key of the run: a hash over everything that changes its weights."""
        return checkpoints.run_key(
            {
                "train": config.model_dump(exclude=set(LOGGING_AND_SAVING | STOPPING | {"base_quantization"})),
                "base_model": self.base_model.revision,
                "precision": self.device.precision,
                "base_quantization": self.device.quantization,
                "processes": self.device.n_processes,
                "data": data_fingerprint(self.rows),
                "validation": data_fingerprint(self.validation_rows),
                "template": fingerprint(self.template),
                "code": code,
            }
        )

    def record_fields(self) -> dict[str, Any]:
        """The fields of RunRecord that follow from the inputs."""
        return {
            "base_model": self.base_model,
            "data_fingerprint": data_fingerprint(self.rows),
            "validation_fingerprint": _tokens_fingerprint(self.validation),
            "template_fingerprint": fingerprint(self.template),
            "train_rows": len(self.rows),
            "skipped_rows": self.n_skipped,
            "hardware": self.device.hardware,
            "precision": self.device.precision,
            "base_quantization": self.device.quantization,
        }


def load_inputs(config: TrainConfig, base_model: BaseModelRef, train_path: str, validation_path: str) -> TrainingInputs:
    """Load the tokenizer, choose the device, and read and tokenize the rows.

    Raises:
        ModelError: the tokenizer cannot be loaded or has no chat template, or bitsandbytes is needed and missing.
        DataError: there are no validation rows, or no row has a supervised token within ``max_length``.
    """
    tokenizer = load_tokenizer(base_model)
    template = template_of(tokenizer, base_model.address)
    device = choose_device(config, base_model)
    rows, validation_rows = read_rows(train_path), read_rows(validation_path)
    if not validation_rows:
        raise DataError(f"{validation_path}: holds no rows; training needs some to measure, and to stop early by")
    examples, n_skipped = _tokenize(base_model, rows, tokenizer, template, config.max_length)
    validation, _ = _tokenize(base_model, validation_rows, tokenizer, template, config.max_length)
    return TrainingInputs(
        base_model, tokenizer, template, device, rows, validation_rows, examples, validation, n_skipped
    )


def _tokens_fingerprint(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.input_ids, example.labels]).encode())
    return digest.hexdigest()


def _tokenize(
    base_model: BaseModelRef, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, template: str, max_length: int
) -> tuple[list[Example], int]:
    """The sequences with a supervised token within ``max_length``, and the number of rows that have none.

    Raises:
        DataError: no row has one.
    """
    kept, refused = examples_of(base_model, tokenizer, template, rows, max_length)
    if refused:
        row, reason = next(iter(refused.items()))
        first = f"row {row} (the split's row outcomes name its source): {reason}"
        if len(refused) == len(rows):
            raise DataError(f"none of the {len(rows)} rows can be trained on: {first}")
        log.warning("%d of %d rows left out, the first: %s", len(refused), len(rows), first)
    if not any(kept):
        whole, _ = examples_of(base_model, tokenizer, template, rows)
        needed = min(_n_needed(example) for examples in whole for example in examples)
        raise DataError(
            f"none of the {len(rows)} rows has a token of the assistant within train.max_length = {max_length} tokens: "
            f"the shortest prompt takes {needed - 1}; raise max_length"
        )
    n_skipped = sum(not examples for examples in kept)
    if n_skipped > len(refused):
        log.warning(
            "%d of %d rows skipped: no token of the assistant is within max_length %d",
            n_skipped - len(refused), len(rows), max_length,
        )  # fmt: skip
    flat = [example for examples in kept for example in examples]
    if len(flat) > len(rows):
        log.info(
            "%d rows are %d sequences: the chat template renders earlier turns differently from the last one",
            len(rows), len(flat),
        )  # fmt: skip
    return flat, n_skipped


def _n_needed(example: Example) -> int:
    """The number of tokens up to and including the first supervised one."""
    return next((i + 1 for i, label in enumerate(example.labels) if i and label != -100), len(example.labels))
