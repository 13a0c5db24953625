"""Train a LoRA adapter on the assistant's words, and write it with its history and its record."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, Row, RunRecord
from components.artifacts.rows import data_fingerprint, read_rows
from components.artifacts.run_record import read_record, write_record
from components.errors import DataError, TrialFailedError
from components.modeling.base_model import load_tokenizer
from components.modeling.chat_template import fingerprint, template_of
from components.modeling.supervision import examples_of
from components.modeling.token_loss import Example
from components.train_lora import checkpoints, processes
from components.train_lora.config import LOGGING_AND_SAVING, STOPPING, TrainConfig
from components.train_lora.device import choose
from components.train_lora.job import say_started

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate")


def train(
    config: TrainConfig,
    base_model: BaseModelRef,
    *,
    code: str,
    checkpoint_root: str,
    train_path: str,
    validation_path: str,
    adapter_path: str,
    job_dir: Path | None = None,
) -> RunRecord:
    """Train, resuming from the newest valid checkpoint of the very same run, and write the adapter folder.

    The folder holds PEFT safetensors, the tokenizer with its chat template, ``history.jsonl`` and ``run.json``.
    ``job_dir`` is where whoever supervises this process looks for word of the run.

    Raises:
        ModelError: the base model cannot be loaded or has no chat template, or bitsandbytes is needed and not there.
        DataError: no row has a word of the assistant within ``max_length``.
        BusyError: another process trains this run.
        InterruptedTrainingError: SIGTERM came; a checkpoint is written.
        DiskSpaceError: the disk is full; the newest checkpoint is whole.
        TrialFailedError: the memory of GPU or machine ran out, or the loss went away; the message says what to lower,
            and a record of that status is in the folder.
    """
    if (n := processes.wanted()) > 1:
        log.info("%d GPUs: training in as many processes, each with rows of its own in every step", n)
        job = {"code": code, "checkpoint_root": checkpoint_root, "train_path": train_path}
        job |= {"validation_path": validation_path, "adapter_path": adapter_path}
        sections = {"config": config.model_dump(mode="json"), "base_model": base_model.model_dump(mode="json")}
        processes.train_distributed(n, {**job, **sections}, job_dir)
        return read_record(adapter_path)

    from components.train_lora.failure import figures_of_failed, write_failed
    from components.train_lora.resource_errors import explain_full_disk, explain_out_of_memory
    from components.train_lora.run import Run

    tokenizer = load_tokenizer(base_model)
    template = template_of(tokenizer, base_model.address)
    device = choose(config, base_model)
    rows, validation_rows = read_rows(train_path), read_rows(validation_path)
    if not validation_rows:
        raise DataError(f"{validation_path}: holds no rows; training needs some to measure, and to stop early by")
    examples, n_skipped = _examples(base_model, rows, tokenizer, template, config.max_length)
    validation, _ = _examples(base_model, validation_rows, tokenizer, template, config.max_length)
    key = checkpoints.run_key(
        {
            "train": config.model_dump(exclude=set(LOGGING_AND_SAVING | STOPPING | {"base_quantization"})),
            "base_model": base_model.revision,
            "precision": device.precision,
            "base_quantization": device.quantization,
            "processes": device.n_processes,
            "data": data_fingerprint(rows),
            "validation": data_fingerprint(validation_rows),
            "template": fingerprint(template),
            "code": code,
        }
    )
    run_dir = Path(checkpoint_root) / key
    is_writer = processes.rank() == 0
    with checkpoints.lock_run(run_dir) if is_writer else nullcontext():
        known: dict[str, Any] = {
            "run_key": key,
            "base_model": base_model,
            "train": config.model_dump(),
            "data_fingerprint": data_fingerprint(rows),
            "validation_fingerprint": _tokens_fingerprint(validation),
            "code_fingerprint": code,
            "template_fingerprint": fingerprint(template),
            "versions": {name: version(name) for name in LIBRARIES},
            "seed": config.seed,
            "train_rows": len(rows),
            "skipped_rows": n_skipped,
            "checkpoint": config.checkpoint,
            "hardware": device.hardware,
            "precision": device.precision,
            "base_quantization": device.quantization,
        }
        if is_writer and job_dir is not None:
            say_started(job_dir, run_dir, {**known, "base_model": base_model.model_dump(mode="json")})
        try:
            with explain_out_of_memory(config, device), explain_full_disk(run_dir):
                run = Run(config, base_model, device, tokenizer, run_dir, examples, validation)
                run.go()
        except TrialFailedError as error:
            write_failed(RunRecord(**known, **figures_of_failed(error, run_dir)), run_dir, Path(adapter_path))
            raise
        record = RunRecord(**known, **run.figures())
        if is_writer:
            run.write_adapter(Path(adapter_path))
            write_record(record, Path(adapter_path))
    return record


def _tokens_fingerprint(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.input_ids, example.labels]).encode())
    return digest.hexdigest()


def _examples(
    base_model: BaseModelRef, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, template: str, max_length: int
) -> tuple[list[Example], int]:
    """Sequences that keep at least one supervised token within ``max_length``, and how many rows have none."""
    kept, refused = examples_of(base_model, tokenizer, template, rows, max_length)
    if refused:
        row, reason = next(iter(refused.items()))
        told = f"row {row} (the split's row outcomes have its file and line): {reason}"
        if len(refused) == len(rows):
            raise DataError(f"none of the {len(rows)} rows can be trained on: {told}")
        log.warning("%d of %d rows left out, the first: %s", len(refused), len(rows), told)
    if not any(kept):
        whole, _ = examples_of(base_model, tokenizer, template, rows)
        needed = min(_n_needed(example) for examples in whole for example in examples)
        raise DataError(
            f"none of the {len(rows)} rows has a word of the assistant within train.max_length = {max_length} tokens: "
            f"the shortest prompt takes {needed - 1}; raise max_length"
        )
    n_skipped = sum(not examples for examples in kept)
    if n_skipped > len(refused):
        log.warning(
            "%d of %d rows skipped: no word of the assistant is within max_length %d",
            n_skipped - len(refused),
            len(rows),
            max_length,
        )
    flat = [example for examples in kept for example in examples]
    if len(flat) > len(rows):
        log.info(
            "%d rows are %d sequences: the chat template writes earlier turns otherwise than the last one",
            len(rows),
            len(flat),
        )
    return flat, n_skipped


def _n_needed(example: Example) -> int:
    """Tokens up to the first one that is supervised."""
    return next((i + 1 for i, label in enumerate(example.labels) if i and label != -100), len(example.labels))
