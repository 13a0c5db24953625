"""Read a run from the folder that a run or a trial leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.artifacts.contracts import (
    FIGURES_NAME,
    GGUF_ANSWERS_NAME,
    HISTORY_NAME,
    RUN_RECORD_NAME,
    SAMPLES_NAME,
    TRIAL_NAME,
    RunRecord,
    Trial,
)
from components.artifacts.run_record import read_record
from components.compare_runs.runs import ComparedAnswer, ComparedRun, Point
from components.errors import ModelError
from components.train_lora.config import LOGGING_AND_SAVING

# Settings that do not change the loss; which checkpoint's weights are kept does.
NOT_SETTINGS = (LOGGING_AND_SAVING - {"checkpoint"}) | {
    "stop_after_fraction", "seed", "per_device_eval_batch_size", "eval_steps", "gradient_checkpointing",
}  # fmt: skip
# Settings of a sweep that the run record or the data's name already has.
RECORDED_SETTINGS = ("train.", "split.data", "base_model")


def read_run(folder: Path, name: str | None = None) -> ComparedRun:
    """The run whose record is in ``folder``.

    Raises:
        ModelError: there is no record, or it is of another version or damaged.
    """
    record = _record(folder)
    trial = _trial(folder / TRIAL_NAME)
    base = record.base_model
    data = ", ".join(trial.data) if trial else f"rows {record.data_fingerprint[:12]}"
    return ComparedRun(
        name=name or (trial.name if trial else folder.name),
        status=record.status,
        reason=record.reason,
        max_steps=record.max_steps,
        takes_best=record.checkpoint == "best",
        stopped_early=record.stopped_by == "stop_after_fraction",
        measured_on=record.validation_fingerprint,
        loss_kind="validation",
        base_model=base.address,
        data=data,
        steps=record.steps,
        settings={**_settings(record, trial), "base_model": base.address, "data": data},
        identity=f"{record.data_fingerprint} {base.revision}",
        seed=record.seed,
        trainable_parameters=record.trainable_parameters,
        hardware=record.hardware,
        minutes=record.minutes,
        tokens_per_second=record.tokens_per_second,
        base_loss=record.base_eval_loss,
        loss_step=record.adapter_step,
        curve=_curve(folder / HISTORY_NAME),
        figures=_figures(folder / FIGURES_NAME),
        answers=[*_answers(folder / SAMPLES_NAME), *_answers(folder / GGUF_ANSWERS_NAME)],
        recipe=trial.recipe if trial else None,
    )


def _record(folder: Path) -> RunRecord:
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such run folder; give folders of .lorry/runs, or a table (.csv)")
    if not (folder / RUN_RECORD_NAME).is_file():
        raise ModelError(
            f"{folder}: holds no {RUN_RECORD_NAME}, so no training was finished there; give a folder of .lorry/runs, a "
            "trial's folder of a sweep, or an adapter's"
        )
    return read_record(str(folder))


def _settings(record: RunRecord, trial: Trial | None) -> dict[str, Any]:
    """The settings of the training, and those that a sweep set outside of it, such as another deduplication."""
    settings = {key: value for key, value in record.train.items() if key not in NOT_SETTINGS}
    if trial:
        settings |= {key: value for key, value in trial.settings.items() if not key.startswith(RECORDED_SETTINGS)}
    return settings


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of parsing a file into one that names it.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: cannot be read ({reason}); it was cut or changed: run the recipe again") from error


def _trial(path: Path) -> Trial | None:
    with _readable(path):
        return Trial.model_validate_json(path.read_bytes()) if path.is_file() else None


def _figures(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    with _readable(path):
        return {name: value for step in json.loads(path.read_bytes()).values() for name, value in step.items()}


def _answers(path: Path) -> list[ComparedAnswer]:
    if not path.is_file():
        return []
    with _readable(path):
        return [ComparedAnswer.model_validate(entry) for entry in json.loads(path.read_bytes())]


def _curve(path: Path) -> list[Point]:
    """The history's entries by step, without step 0, the untuned base: the record has its loss."""
    if not path.is_file():
        return []
    points: dict[int, dict[str, Any]] = {}
    with _readable(path):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            point = points.setdefault(entry["step"], {"step": entry["step"]})
            if "eval_loss" in entry:
                point["loss"] = entry["eval_loss"]
            if "loss" in entry:
                point["training_loss"] = entry["loss"]
                point["minutes"] = entry.get("minutes")
        return [Point(**point) for step, point in sorted(points.items()) if step > 0]
