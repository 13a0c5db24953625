"""Train a LoRA adapter, and write it with its history and its record."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef, RunRecord
from components.artifacts.run_record import read_record, write_record
from components.errors import TrialFailedError
from components.train_lora import checkpoints, processes
from components.train_lora.config import TrainConfig
from components.train_lora.inputs import TrainingInputs, load_inputs
from components.train_lora.job import write_started

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
    """Train, resuming from the newest valid checkpoint of the same run, and write the adapter folder.

    The folder holds PEFT safetensors, the tokenizer with its chat template, ``history.jsonl`` and ``run.json``.
    ``job_dir`` is the folder of the job file, for the process that supervises this one.

    Raises:
        ModelError: the base model cannot be loaded or has no chat template, or bitsandbytes is needed and missing.
        DataError: no row has a supervised token within ``max_length``.
        BusyError: another process trains this run.
        InterruptedTrainingError: SIGTERM came; a checkpoint is written.
        DiskSpaceError: the disk is full; the newest checkpoint is complete.
        TrialFailedError: memory ran out, or the loss diverged; the message says what to lower, and the folder holds a
            record with that status.
    """
    if (n := processes.n_to_start()) > 1:
        log.info("%d GPUs: training in as many processes, each with rows of its own in every step", n)
        job = {"code": code, "checkpoint_root": checkpoint_root, "train_path": train_path}
        job |= {"validation_path": validation_path, "adapter_path": adapter_path}
        sections = {"config": config.model_dump(mode="json"), "base_model": base_model.model_dump(mode="json")}
        processes.train_distributed(n, {**job, **sections}, job_dir)
        return read_record(adapter_path)
    inputs = load_inputs(config, base_model, train_path, validation_path)
    run_dir = Path(checkpoint_root) / inputs.run_key(config, code)
    with checkpoints.lock_run(run_dir) if processes.rank() == 0 else nullcontext():
        return _train_one_process(config, inputs, code, run_dir, Path(adapter_path), job_dir)


def _train_one_process(
    config: TrainConfig, inputs: TrainingInputs, code: str, run_dir: Path, adapter: Path, job_dir: Path | None
) -> RunRecord:
    """Train as the only process, or as one of several of which rank 0 writes the adapter.

    Raises:
        LorryError: see ``train``.
    """
    from components.train_lora.failure import figures_of_failed, write_failed
    from components.train_lora.resource_errors import explain_full_disk, explain_out_of_memory
    from components.train_lora.run import Run

    is_writer = processes.rank() == 0
    known: dict[str, Any] = {
        **inputs.record_fields(),
        "run_key": run_dir.name,
        "train": config.model_dump(),
        "code_fingerprint": code,
        "versions": {name: version(name) for name in LIBRARIES},
        "seed": config.seed,
        "checkpoint": config.checkpoint,
    }
    if is_writer and job_dir is not None:
        write_started(job_dir, run_dir, {**known, "base_model": inputs.base_model.model_dump(mode="json")})
    try:
        with explain_out_of_memory(config, inputs.device), explain_full_disk(run_dir):
            run = Run(
                config, inputs.base_model, inputs.device, inputs.tokenizer, run_dir, inputs.examples, inputs.validation
            )
            run.train()
    except TrialFailedError as error:
        write_failed(RunRecord(**known, **figures_of_failed(error, run_dir)), run_dir, adapter)
        raise
    record = RunRecord(**known, **run.figures())
    if is_writer:
        run.write_adapter(adapter)
        write_record(record, adapter)
    return record
