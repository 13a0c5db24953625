"""Rank runs whose losses compare: repeated seeds as one, stopped trials last, and no winner within the noise."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.compare_runs.noise import Noise, SeedDeviation, noise_of_evaluations, noise_of_seeds, seed_deviation
from components.compare_runs.runs import ComparedRun

# Names that a sentence lists.
MAX_NAMED = 3

Losses = Mapping[str, float | None]  # by the name of the run


class Ranked(BaseModel):
    """One setting in a ranking; runs that differ in their seed alone are one, and its loss is their mean."""

    model_config = ConfigDict(frozen=True)

    rank: int
    name: str
    runs: list[str]
    loss: float
    behind: Annotated[float, Field(description="nats above the first")]
    noise: Annotated[
        float | None, Field(description="nats: a smaller difference from the first is not significant; None = unknown")
    ]
    noise_source: str | None
    stopped_early: bool
    tied: Annotated[bool, Field(description="its difference from the first is within the noise, or that is unknown")]


def group_seeds(runs: Sequence[ComparedRun], losses: Losses) -> list[list[ComparedRun]]:
    """The runs with a loss; those that differ in their seed alone are one group."""
    groups: list[list[ComparedRun]] = []
    for run in runs:
        if losses[run.name] is None:
            continue
        for group in groups:
            same = _without_seed(group[0]) == _without_seed(run)
            if same and run.seed is not None and run.seed not in [other.seed for other in group]:
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _without_seed(run: ComparedRun) -> tuple[object, ...]:
    """The properties that runs share if they are repeats with another seed."""
    return run.settings, run.identity, run.stopped_early


def mean_loss(runs: Sequence[ComparedRun], losses: Losses) -> float:
    """The mean loss of the runs that have one."""
    return statistics.fmean(_known(runs, losses))


def _known(runs: Sequence[ComparedRun], losses: Losses) -> list[float]:
    return [loss for run in runs if (loss := losses[run.name]) is not None]


def rank(groups: Sequence[Sequence[ComparedRun]], losses: Losses) -> list[Ranked]:
    """The groups by their mean loss, the lowest first; one within the noise of the first is tied with it."""
    # A trial that a sweep stopped has trained less: it is ranked behind those that were continued.
    ordered = sorted(groups, key=lambda group: (group[0].stopped_early, mean_loss(group, losses)))
    deviation = seed_deviation([_known(group, losses) for group in groups])
    ranking = []
    for number, group in enumerate(ordered, start=1):
        behind = mean_loss(group, losses) - mean_loss(ordered[0], losses)
        noise = _noise(ordered[0], group, deviation) if number > 1 else None
        ranking.append(
            Ranked(
                rank=number,
                name=group[0].name if len(group) == 1 else f"{group[0].name} ({len(group)} seeds)",
                runs=[run.name for run in sorted(group, key=lambda run: losses[run.name] or 0.0)],
                loss=mean_loss(group, losses),
                behind=behind,
                noise=None if noise is None else noise.nats,
                noise_source=None if noise is None else noise.source,
                stopped_early=group[0].stopped_early,
                tied=number > 1 and not group[0].stopped_early and (noise is None or abs(behind) <= noise.nats),
            )
        )
    return ranking


def _noise(first: Sequence[ComparedRun], other: Sequence[ComparedRun], deviation: SeedDeviation | None) -> Noise | None:
    if deviation is not None:
        return noise_of_seeds(deviation, len(first), len(other))
    return noise_of_evaluations(first[0], other[0])


def verdict_of(ranking: Sequence[Ranked]) -> str:
    """The ranking in a sentence: which is best and by how much, or why that is not known."""
    if not ranking:
        return "No run has a loss to rank."
    best, *others = [one for one in ranking if not one.stopped_early] or ranking
    if not others:
        return f"{best.name} is the only run with a loss here: {best.loss:.4f}."
    tied = [one for one in others if one.tied]
    if not tied:
        second = others[0]
        noise = "" if second.noise is None else f"; the noise is {second.noise:.4f} ({second.noise_source})"
        return f"{best.name} is best with {best.loss:.4f}: {second.name} is {second.behind:.4f} behind{noise}."
    names = join_names(one.name for one in tied)
    if any(one.noise is None for one in tied):
        return (
            f"{best.name} has the lowest loss, {best.loss:.4f}, but whether its lead over {names} is more than noise "
            "is not known: repeat with other values of train.seed, or validate three times or more (train.eval_steps)."
        )
    return (
        f"No winner: {best.name} has the lowest loss, {best.loss:.4f}, but the lead over {names} is within the noise "
        f"({max(one.noise or 0.0 for one in tied):.4f}, from {tied[0].noise_source})."
    )


def join_names(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    n_more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {n_more} more" if n_more > 0 else "")
