"""The noise of the difference between two losses: by repeated seeds, or by the scatter of the last evaluations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from components.compare_runs.runs import ComparedRun

# Evaluations that the scatter is computed from, and the standard deviations that a significant difference exceeds.
LAST_EVALUATIONS = 3
DEVIATIONS = 2.0
# Student's t at 97.5 %, by degrees of freedom from 1 on; more than ten are taken as ten.
T_QUANTILES = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Noise:
    """A difference of at most ``nats`` is not significant; ``source`` names the estimate."""

    nats: float
    source: str


@dataclass(frozen=True)
class SeedDeviation:
    """The standard deviation of a loss over seeds, and its degrees of freedom."""

    nats: float
    freedom: int


def seed_deviation(repeated: Sequence[Sequence[float]]) -> SeedDeviation | None:
    """The pooled standard deviation of losses over seeds; ``repeated`` has the losses of each setting.

    None where no setting was run with two seeds.
    """
    several = [losses for losses in repeated if len(losses) > 1]
    freedom = sum(len(losses) - 1 for losses in several)
    if not freedom:
        return None
    squares = sum(statistics.variance(losses) * (len(losses) - 1) for losses in several)
    return SeedDeviation(math.sqrt(squares / freedom), freedom)


def noise_of_seeds(deviation: SeedDeviation, n_first: int, n_second: int) -> Noise:
    """Noise of the difference of two means over seeds: chance exceeds it once in twenty times."""
    quantile = T_QUANTILES[min(deviation.freedom, len(T_QUANTILES)) - 1]
    return Noise(quantile * deviation.nats * math.sqrt(1 / n_first + 1 / n_second), "repeated seeds")


def noise_of_evaluations(first: ComparedRun, second: ComparedRun) -> Noise | None:
    """Noise of the difference of two runs' last losses, by their last evaluations.

    The larger of two scatters: of the differences at the same steps, and of each run's losses around a straight line.
    None where the two have fewer than three evaluations at the same steps.
    """
    of_first = {point.step: point.loss for point in first.measured if point.loss is not None}
    of_second = {point.step: point.loss for point in second.measured if point.loss is not None}
    steps = sorted(of_first.keys() & of_second.keys())[-LAST_EVALUATIONS:]
    if len(steps) < LAST_EVALUATIONS:
        return None
    difference = statistics.stdev(of_first[step] - of_second[step] for step in steps)
    scatters = [_scatter(steps, [losses[step] for step in steps]) for losses in (of_first, of_second)]
    return Noise(DEVIATIONS * max(difference, *scatters), "the scatter of the last evaluations")


def _scatter(steps: Sequence[int], losses: Sequence[float]) -> float:
    """Standard deviation of losses around their regression line."""
    line = statistics.linear_regression(steps, losses)
    residuals = [loss - (line.intercept + line.slope * step) for step, loss in zip(steps, losses, strict=True)]
    return math.sqrt(sum(value**2 for value in residuals) / (len(residuals) - 2))
