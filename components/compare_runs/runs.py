"""One run as a comparison sees it, read from the folder that a run or a trial leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from components.artifacts.contracts import (
    FIGURES_NAME,
    GGUF_ANSWERS_NAME,
    HISTORY_NAME,
    RUN_RECORD_NAME,
    SAMPLES_NAME,
    TRIAL_NAME,
    RunStatus,
    Trial,
)
from components.artifacts.run_record import read_record
from components.errors import ModelError
from components.train_lora.config import LOGGING_AND_SAVING

LossKind = Literal["validation", "test", "training"]
# What says nothing of a loss; whose weights are given, and a recipe's own ends, do.
NOT_SETTINGS = (LOGGING_AND_SAVING - {"checkpoint"}) | {
    "stop_after_fraction", "seed", "per_device_eval_batch_size", "eval_steps", "gradient_checkpointing",
}  # fmt: skip


class Point(BaseModel):
    """What was measured after one step. Losses are in nats a token."""

    model_config = ConfigDict(frozen=True)

    step: int
    minutes: float | None = None
    training_loss: float | None = None
    loss: float | None = None


class Answer(BaseModel):
    """One model's answer to one turn."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str
    turn: str
    model: str
    text: str
    seconds: float
    n_tokens: int


class ComparedRun(BaseModel):
    """A run: what went in, what it cost, and how its loss went."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: RunStatus = "finished"
    reason: str | None = None
    max_steps: Annotated[int | None, Field(description="steps of the whole schedule")] = None
    takes_best: Annotated[bool, Field(description="gives the weights of its best validation, not of its end")] = False
    stopped_early: Annotated[bool, Field(description="a sweep did not continue it to its last step")] = False
    measured_on: Annotated[str, Field(description="runs with another value have losses that do not compare")]
    loss_kind: LossKind
    base_model: str
    data: str
    steps: int
    settings: Annotated[dict[str, Any], Field(description="of the training, base_model and data included")]
    identity: Annotated[str, Field(description="of rows and base: only alike runs are repeats of one another")] = ""
    seed: int | None = None
    trainable_parameters: int | None = None
    hardware: str | None = None
    minutes: float | None = None
    tokens_per_second: float | None = None
    base_loss: Annotated[float | None, Field(description="of the untuned base, on the same rows")] = None
    loss_step: Annotated[int | None, Field(description="the step whose weights the run gives")] = None
    curve: list[Point] = []
    figures: dict[str, float] = {}
    answers: list[Answer] = []
    recipe: dict[str, Any] | None = None

    @property
    def loss(self) -> float | None:
        """The loss of the weights that the run gives; None where it failed or was not measured."""
        if self.status != "finished":
            return None
        found = [point for point in self.measured if self.loss_step in (None, point.step)]
        return found[-1].loss if found else None

    @property
    def measured(self) -> list[Point]:
        """The points of the curve with a loss that is a number, in the order of steps."""
        return [point for point in self.curve if point.loss is not None and math.isfinite(point.loss)]

    def within(self, minutes: float) -> ComparedRun:
        """The run as far as it had come after so many minutes of training: its loss is the last measured until then."""
        points = [point for point in self.curve if point.minutes is not None and point.minutes <= minutes]
        return self.model_copy(update={"curve": points, "loss_step": None})

    def loss_at_share(self, fraction: float) -> float | None:
        """The loss of the weights that it would give after a share of its steps, by the evaluations until then."""
        if self.status != "finished" or self.max_steps is None:
            return None
        last = math.ceil(fraction * self.max_steps)
        losses = [point.loss for point in self.measured if point.step <= last and point.loss is not None]
        if not losses:
            return None
        return min(losses) if self.takes_best else losses[-1]


def read_run(folder: Path, name: str | None = None) -> ComparedRun:
    """The run whose record lies in ``folder``.

    Raises:
        ModelError: there is no record, or it is of another version or damaged.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such run folder; give folders of .lorry/runs, or a table (.csv)")
    if not (folder / RUN_RECORD_NAME).is_file():
        raise ModelError(
            f"{folder}: holds no {RUN_RECORD_NAME}, so no training was finished there; give a folder of .lorry/runs, a "
            "trial's folder of a sweep, or an adapter's"
        )
    record = read_record(str(folder))
    trial = _trial(folder / TRIAL_NAME)
    data = ", ".join(trial.data) if trial else f"rows {record.data_fingerprint[:12]}"
    own = {key: value for key, value in record.train.items() if key not in NOT_SETTINGS}
    if trial:  # what a sweep sets outside of training, such as another deduplication of the same data
        told = ("train.", "split.data", "base_model")
        own |= {key: value for key, value in trial.settings.items() if not key.startswith(told)}
    figures = _figures(folder / FIGURES_NAME)
    base = record.base_model
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
        settings={**own, "base_model": base.address, "data": data},
        identity=f"{record.data_fingerprint} {base.revision}",
        seed=record.seed,
        trainable_parameters=record.trainable_parameters,
        hardware=record.hardware,
        minutes=record.minutes,
        tokens_per_second=record.tokens_per_second,
        base_loss=record.base_eval_loss,
        loss_step=record.adapter_step,
        curve=_curve(folder / HISTORY_NAME),
        figures=figures,
        answers=[*_answers(folder / SAMPLES_NAME), *_answers(folder / GGUF_ANSWERS_NAME)],
        recipe=trial.recipe if trial else None,
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file of a run's folder that was cut or changed, in words.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: cannot be read ({said}); it was cut or changed: run the recipe again") from error


def _trial(path: Path) -> Trial | None:
    with _readable(path):
        return Trial.model_validate_json(path.read_bytes()) if path.is_file() else None


def _figures(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    with _readable(path):
        return {name: value for step in json.loads(path.read_bytes()).values() for name, value in step.items()}


def _answers(path: Path) -> list[Answer]:
    with _readable(path):
        return [Answer.model_validate(told) for told in json.loads(path.read_bytes())] if path.is_file() else []


def _curve(path: Path) -> list[Point]:
    """The history's entries by step; the untuned base's, step 0, is the record's own."""
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
