"""Earlier runs of a work folder: what their steps took, beside what published figures give for them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.estimate.ranges import Range

# Of a figure that earlier runs of the same size correct; and more for each factor of e between the sizes.
LEAST_SPREAD = 0.15
SPREAD_A_SIZE = 0.15
# A step that hardly computes says nothing about the speed of the machine.
LEAST_SHARE_OF_WORK = 0.3


@dataclass(frozen=True)
class Measured:
    """A step of an earlier run: ``ratio`` is what was measured over what published figures give for it.

    ``n_parameters`` are those of its base model. A trial of a sweep counts as ``train_lora``.
    """

    step: str
    n_parameters: int
    ratio: float


@dataclass(frozen=True)
class Calibration:
    """Corrections by earlier runs, of the seconds of work and of the peak of memory."""

    seconds: tuple[Measured, ...] = ()
    memory: tuple[Measured, ...] = ()

    def of_seconds(self, step: str, n_parameters: int, spread: float) -> Correction:
        """The correction for the work of a step."""
        own = [one for one in self.seconds if one.step == step]
        return correction(own or _others(self.seconds), n_parameters, spread, is_of_step=bool(own))

    def of_memory(self, step: str, n_parameters: int, spread: float) -> Correction:
        """The correction for the peak of a step's memory."""
        own = [one for one in self.memory if one.step == step]
        return correction(own, n_parameters, spread, is_of_step=True)


@dataclass(frozen=True)
class Correction:
    """A factor with its bounds, and the number of earlier steps that it is from; 0: none."""

    factor: Range
    n_runs: int


def correction(measured: Sequence[Measured], n_parameters: int, spread: float, *, is_of_step: bool) -> Correction:
    """The mean of earlier ratios, in which runs of a similar size count more.

    ``spread`` is that of the published figures, for where there are no earlier runs.
    """
    if not measured:
        return Correction(Range(1 / (1 + spread), 1.0, 1 + spread), 0)
    away = [abs(math.log(one.n_parameters / n_parameters)) for one in measured]
    weights = [1 / (0.1 + distance**2) for distance in away]
    logs = [math.log(one.ratio) for one in measured]
    mean = sum(weight * value for weight, value in zip(weights, logs, strict=True)) / sum(weights)
    apart = statistics.pstdev(logs) if len(logs) > 1 else 0.0
    least = LEAST_SPREAD if is_of_step else LEAST_SPREAD + 0.35
    share = min(math.hypot(least + SPREAD_A_SIZE * min(away), apart), max(spread, least))
    value = math.exp(mean)
    return Correction(Range(value / (1 + share), value, value * (1 + share)), len(measured))


def _others(measured: Iterable[Measured]) -> list[Measured]:
    """Other steps of this machine: where it is slower in training, it is in the rest."""
    return [one for one in measured if one.step == "train_lora"]
