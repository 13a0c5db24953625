"""A run as a comparison uses it: its settings, its costs, and its losses by step."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from components.artifacts.contracts import RunStatus

LossKind = Literal["validation", "test", "training"]


class Point(BaseModel):
    """The measurements after one step. Losses are in nats per token."""

    model_config = ConfigDict(frozen=True)

    step: int
    minutes: float | None = None
    training_loss: float | None = None
    loss: float | None = None


class ComparedAnswer(BaseModel):
    """One model's answer to one turn."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str
    turn: str
    model: str
    text: str
    seconds: float
    n_tokens: int


class ComparedRun(BaseModel):
    """One run: its settings, its costs, and its losses."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: RunStatus = "finished"
    reason: str | None = None
    max_steps: Annotated[int | None, Field(description="steps of the whole schedule")] = None
    takes_best: Annotated[bool, Field(description="keeps the weights of its best validation, not the last ones")] = (
        False
    )
    stopped_early: Annotated[bool, Field(description="a sweep did not continue it to its last step")] = False
    measured_on: Annotated[str, Field(description="losses of runs with another value do not compare")]
    loss_kind: LossKind
    base_model: str
    data: str
    steps: int
    settings: Annotated[dict[str, Any], Field(description="of the training, base_model and data included")]
    identity: Annotated[str, Field(description="of rows and base: repeats of a run have the same one")] = ""
    seed: int | None = None
    trainable_parameters: int | None = None
    hardware: str | None = None
    minutes: float | None = None
    tokens_per_second: float | None = None
    base_loss: Annotated[float | None, Field(description="of the untuned base, on the same rows")] = None
    loss_step: Annotated[int | None, Field(description="the step whose weights the run keeps")] = None
    curve: list[Point] = []
    figures: dict[str, float] = {}
    answers: list[ComparedAnswer] = []
    recipe: dict[str, Any] | None = None

    @property
    def loss(self) -> float | None:
        """The loss of the weights that the run keeps; None where it failed or was not measured."""
        if self.status != "finished":
            return None
        points = [point for point in self.measured if self.loss_step in (None, point.step)]
        return points[-1].loss if points else None

    @property
    def measured(self) -> list[Point]:
        """The points of the curve with a finite loss, in the order of steps."""
        return [point for point in self.curve if point.loss is not None and math.isfinite(point.loss)]

    def within(self, minutes: float) -> ComparedRun:
        """The run up to so many minutes of training: its loss is the last measured until then."""
        points = [point for point in self.curve if point.minutes is not None and point.minutes <= minutes]
        return self.model_copy(update={"curve": points, "loss_step": None})

    def loss_at_share(self, fraction: float) -> float | None:
        """The loss of the weights that it would keep after a share of its steps, by the evaluations until then."""
        if self.status != "finished" or self.max_steps is None:
            return None
        last = math.ceil(fraction * self.max_steps)
        losses = [point.loss for point in self.measured if point.step <= last and point.loss is not None]
        if not losses:
            return None
        return min(losses) if self.takes_best else losses[-1]
