"""Runs for the tests of comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.artifacts.contracts import (
    HISTORY_NAME,
    RUN_RECORD_NAME,
    TRIAL_NAME,
    BaseModelRef,
    RunRecord,
    Trial,
)
from components.compare_runs.compare import ComparedSet, Comparison, compare
from components.compare_runs.config import CompareConfig
from components.compare_runs.runs import ComparedAnswer, ComparedRun, Point


def a_run(name: str, *losses: float, **changes: Any) -> ComparedRun:
    """A run that was validated after 10, 20, … steps, a minute each."""
    curve = [Point(step=10 * i, minutes=float(i), loss=loss) for i, loss in enumerate(losses, start=1)]
    settings = {"learning_rate": 1e-3, "lora_rank": 8, **changes.pop("settings", {})}
    known = {"measured_on": "rows", "loss_kind": "validation", "base_model": "base", "data": "chats.jsonl"}
    minutes = float(len(losses))
    return ComparedRun(
        name=name, steps=10 * len(losses), settings=settings, curve=curve, **{"minutes": minutes, **known, **changes}
    )


def timed(name: str, loss: float, seconds: float, **changes: Any) -> ComparedRun:
    """A run whose quantized file answers in ``seconds``."""
    return a_run(name, loss, figures={"quantized_seconds_per_answer": seconds}, **changes)


def an_answer(model: str, **changes: Any) -> ComparedAnswer:
    known = {"prompt": "p", "turn": "Hi?", "text": "Hello", "seconds": 2.0, "n_tokens": 8}
    return ComparedAnswer(model=model, **{**known, **changes})


def compared(*runs: ComparedRun, **config: Any) -> Comparison:
    return compare(runs, CompareConfig(**config))


def only_set(*runs: ComparedRun, **config: Any) -> ComparedSet:
    (one,) = compared(*runs, **config).sets
    return one


def a_record(**changes: Any) -> RunRecord:
    """The record of a finished run of 20 steps."""
    known: dict[str, Any] = {
        "run_key": "key", "base_model": BaseModelRef(address="owner/base", revision="abc", weight_bytes=1),
        "train": {"learning_rate": 1e-3, "seed": 3, "eval_steps": 10, "save_steps": 5, "checkpoint": "final"},
        "data_fingerprint": "d" * 64, "validation_fingerprint": "v" * 64, "code_fingerprint": "c",
        "template_fingerprint": "t", "versions": {}, "seed": 3, "hardware": "cpu", "precision": "float32",
        "train_rows": 8, "skipped_rows": 0, "trainable_parameters": 1000, "total_parameters": 9000, "steps": 20,
        "max_steps": 20, "minutes": 2.0, "tokens_per_second": 50.0, "base_eval_loss": 3.0, "best_eval_loss": 1.0,
        "best_step": 10, "final_eval_loss": 1.2, "adapter_step": 20, "checkpoint": "final",
    }  # fmt: skip
    return RunRecord.model_validate({**known, **changes})


def write_run(
    folder: Path,
    record: RunRecord,
    *,
    history: Sequence[dict[str, Any]] = ({"step": 10, "eval_loss": 1.0}, {"step": 20, "eval_loss": 1.2}),
    trial: Trial | None = None,
) -> Path:
    """The folder that a run, or a trial, leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_RECORD_NAME).write_text(record.model_dump_json())
    (folder / HISTORY_NAME).write_text("".join(json.dumps(entry) + "\n" for entry in history))
    if trial is not None:
        (folder / TRIAL_NAME).write_text(trial.model_dump_json())
    return folder


def a_trial(name: str, **changes: Any) -> Trial:
    known: dict[str, Any] = {"settings": {}, "data": ["chats.jsonl"], "recipe": {"name": name}}
    return Trial.model_validate({"name": name, **known, **changes})
