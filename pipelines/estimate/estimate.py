"""The estimate of a recipe or of a sweep: what its steps take, whether they fit, and what they cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from components.artifacts.contracts import BaseModelRef
from components.promote_trials.config import HalvingConfig
from pipelines.config.recipe import Recipe
from pipelines.config.steps import Sections
from pipelines.config.sweep import LoadedSweep
from pipelines.estimate.calibration import Calibration
from pipelines.estimate.limits import Attempt, Shortage, disk_shortage, shortages_of
from pipelines.estimate.machines import Machine, Place
from pipelines.estimate.memory import SMALL_STEP_BYTES
from pipelines.estimate.ranges import Range, around, largest, total
from pipelines.estimate.steps import RunModel, StepEstimate, estimate_step, model_of

# A small step of a sweep, such as comparing its runs: Python starts, and a page is drawn.
SMALL_STEP_SECONDS = 2.0
WINNER_SECONDS = 10.0


@dataclass(frozen=True)
class Estimate:
    """The estimate of a run or of a sweep.

    ``fixes`` are settings and pools with which what cannot fit would; ``notes`` say what the figures leave out.
    """

    name: str
    place: Place
    model: RunModel
    steps: tuple[StepEstimate, ...]
    shortages: tuple[Shortage, ...]
    fixes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> Range:
        """Of all steps, one after another."""
        return total(step.seconds for step in self.steps)

    @property
    def host_bytes(self) -> Range:
        """The largest peak of a step."""
        return largest(step.host_bytes for step in self.steps)

    @property
    def gpu_bytes(self) -> Range | None:
        peaks = [step.gpu_bytes for step in self.steps if step.gpu_bytes is not None]
        return largest(peaks) if peaks else None

    @property
    def cost(self) -> Range | None:
        """The cost of the steps whose pools have a price; None where none has."""
        costs = [step.cost for step in self.steps if step.cost is not None]
        return total(costs) if costs else None

    @property
    def n_runs(self) -> int:
        """Earlier runs behind the minutes of training."""
        return next((step.n_runs for step in self.steps if step.step in ("train_lora", "train_trial")), 0)

    @property
    def fits(self) -> bool:
        """Whether nothing is certain not to fit."""
        return not any(shortage.certain for shortage in self.shortages)


def estimate_run(
    name: str, sections: Sections, base: BaseModelRef, at: Place, calibration: Calibration, workdir: Path
) -> Estimate:
    """The estimate of one run.

    Raises:
        LorryError: base or data cannot be read from this machine.
    """
    model = model_of(sections, base, at)
    steps = _estimated(model, calibration)
    return _estimate(name, sections, at, calibration, model, steps, workdir)


def _estimated(model: RunModel, calibration: Calibration) -> tuple[StepEstimate, ...]:
    spread = model.data.train.cut(1_000_000).spread
    return tuple(estimate_step(step, model.shape.n_parameters, calibration, spread) for step in model.steps)


def _estimate(
    name: str,
    sections: Sections,
    at: Place,
    calibration: Calibration,
    model: RunModel,
    steps: tuple[StepEstimate, ...],
    workdir: Path,
) -> Estimate:
    shortages = shortages_of(steps)
    failing = frozenset(one.step.replace("train_trial", "train_lora") for one in shortages if one.certain)
    found = Attempt(sections, model.base, at, calibration, failing).fixes() if failing else []
    disk = disk_shortage(model, workdir) if at.placement is None else None
    notes = [f"lengths: {model.data.read}"]
    if at.placement is None and (load := os.getloadavg()[0]) > 1.5 * at.here.cores:
        notes.append(f"this machine is busy (load {load:.1f} on {at.here.cores:g} cores): a run takes longer meanwhile")
    if sections.train.early_stopping_patience is not None:
        notes.append("train.early_stopping_patience may end training earlier")
    return Estimate(
        name=name,
        place=at,
        model=model,
        steps=steps,
        shortages=(*shortages, *([disk] if disk else [])),
        fixes=tuple(found),
        notes=tuple(notes),
    )


def estimate_sweep(
    loaded: LoadedSweep,
    resolve: Callable[[Recipe], tuple[Sections, BaseModelRef]],
    at: Place,
    calibration: Calibration,
    workdir: Path,
) -> Estimate:
    """The estimate of a sweep, whose trials run one after another on this machine and side by side on a cluster.

    ``resolve`` gives a recipe's sections and base model.

    Raises:
        LorryError: see ``estimate_run``.
    """
    resolved = {name: resolve(recipe) for name, recipe in loaded.recipes.items()}
    models = {
        name: model_of(sections, base, at, steps=["split_data", "train_lora", "evaluate"])
        for name, (sections, base) in resolved.items()
    }
    trials = {name: _estimated(model, calibration) for name, model in models.items()}
    largest_trial = max(trials, key=lambda name: trials[name][1].host_bytes.value)
    side_by_side = 1 if at.placement is None else min(loaded.sweep.parallelism, len(trials))
    steps = _steps_of_sweep(trials, loaded.sweep.halving, side_by_side)
    sections, _ = resolved[largest_trial]
    found = _estimate(loaded.sweep.name, sections, at, calibration, models[largest_trial], steps, workdir)
    note = f"trials: {len(trials)}, {side_by_side} at a time; one that diverges ends earlier"
    return replace(found, notes=(*found.notes, note))


def _steps_of_sweep(
    trials: Mapping[str, tuple[StepEstimate, ...]], halving: HalvingConfig | None, side_by_side: int
) -> tuple[StepEstimate, ...]:
    """The steps of a sweep, in their order; times of trials that run side by side count once."""
    split, train, evaluate = next(iter(trials.values()))
    trained = _trained([own[1] for own in trials.values()], halving)
    wall = replace(train, step="train_trial", seconds=trained.times(1 / side_by_side), cost=_cost(train, trained))
    wall = replace(wall, host_bytes=largest(own[1].host_bytes for own in trials.values()))
    n_rungs = 1 if halving is None else len(halving.fractions)
    # The winner's training is at its end already: its process starts and writes the adapter.
    winner = replace(train, seconds=around(WINNER_SECONDS + train.machine.pod_seconds, 0.5), cost=None)
    return (
        split,
        wall,
        _small("promote_trials", split.machine, n_rungs),
        _small("compare_runs", split.machine, 1),
        _small("publish_sweep", split.machine, 2),
        winner,
        evaluate,
    )


def _small(step: str, machine: Machine, n: int) -> StepEstimate:
    seconds = around(n * (SMALL_STEP_SECONDS + machine.pod_seconds), 0.5)
    memory = around(SMALL_STEP_BYTES, 0.3)
    return StepEstimate(step, machine, seconds, memory, None, None, 0, machine.speed.source)


def _cost(train: StepEstimate, seconds: Range) -> Range | None:
    price = train.machine.price_per_hour
    return None if price is None else seconds.times(price / 3600)


def _trained(trials: list[StepEstimate], halving: HalvingConfig | None) -> Range:
    """The seconds of all trials together; with halving each rung goes on from the one before."""
    whole = total(trial.seconds for trial in trials)
    if halving is None:
        return whole
    mean = whole.times(1 / len(trials))
    seconds = Range(0.0, 0.0, 0.0)
    n, before = float(len(trials)), 0.0
    for fraction in halving.fractions:
        # A rung's processes start anew; what that takes is about a tenth of a short trial.
        seconds += mean.times(n * min(1.0, fraction - before + 0.05))
        n, before = max(1.0, n / halving.reduction_factor), fraction
    return seconds
