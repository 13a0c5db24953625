"""Ranking runs whose losses compare: seeds together, poor trials last, and no winner within chance."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.compare_runs.noise import Noise, SeedDeviation, noise_of_evaluations, noise_of_seeds, seed_deviation
from components.compare_runs.runs import ComparedRun

# Names that a sentence lists.
MAX_NAMED = 3


class Ranked(BaseModel):
    """One setting in a ranking; runs that differ in their seed alone are one, and its loss is their mean."""

    model_config = ConfigDict(frozen=True)

    rank: int
    name: str
    runs: list[str]
    loss: float
    behind: Annotated[float, Field(description="nats above the first")]
    noise: Annotated[float | None, Field(description="a difference of so many nats may be chance; None = unknown")]
    noise_source: str | None
    stopped_early: bool
    tied: Annotated[bool, Field(description="cannot be told from the first, or it is not known whether it can")]


def candidates_of(runs: Sequence[ComparedRun], losses: dict[str, float | None]) -> list[list[ComparedRun]]:
    """Runs with a loss, those together that differ in their seed alone."""
    found: list[list[ComparedRun]] = []
    for run in runs:
        if losses[run.name] is None:
            continue
        for own in found:
            alike = _what(own[0]) == _what(run)
            if alike and run.seed is not None and run.seed not in [other.seed for other in own]:
                own.append(run)
                break
        else:
            found.append([run])
    return found


def _what(run: ComparedRun) -> tuple[object, ...]:
    """What two runs must share to be repeats with another seed."""
    return run.settings, run.identity, run.stopped_early


def mean_loss(runs: Sequence[ComparedRun], losses: dict[str, float | None]) -> float:
    """The mean loss of runs that have one."""
    return statistics.fmean(loss for run in runs if (loss := losses[run.name]) is not None)


def rank(candidates: Sequence[Sequence[ComparedRun]], losses: dict[str, float | None]) -> list[Ranked]:
    """Candidates by their loss, the lowest first; what is within chance of the first is tied with it."""
    # A trial that a sweep gave up has trained less: it stands behind those that were continued.
    ordered = sorted(candidates, key=lambda own: (own[0].stopped_early, mean_loss(own, losses)))
    deviation = seed_deviation([[loss for run in own if (loss := losses[run.name]) is not None] for own in candidates])
    ranking = []
    for place, own in enumerate(ordered, start=1):
        behind = mean_loss(own, losses) - mean_loss(ordered[0], losses)
        noise = _noise(ordered[0], own, deviation) if place > 1 else None
        ranking.append(
            Ranked(
                rank=place,
                name=own[0].name if len(own) == 1 else f"{own[0].name} ({len(own)} seeds)",
                runs=[run.name for run in sorted(own, key=lambda run: losses[run.name] or 0.0)],
                loss=mean_loss(own, losses),
                behind=behind,
                noise=None if noise is None else noise.nats,
                noise_source=None if noise is None else noise.source,
                stopped_early=own[0].stopped_early,
                tied=place > 1 and not own[0].stopped_early and (noise is None or abs(behind) <= noise.nats),
            )
        )
    return ranking


def _noise(first: Sequence[ComparedRun], other: Sequence[ComparedRun], deviation: SeedDeviation | None) -> Noise | None:
    if deviation is not None:
        return noise_of_seeds(deviation, len(first), len(other))
    return noise_of_evaluations(first[0], other[0])


def verdict_of(ranking: Sequence[Ranked]) -> str:
    """The ranking in a sentence: who is best and by how much, or why that cannot be said."""
    if not ranking:
        return "No run has a loss to rank."
    best, *others = [one for one in ranking if not one.stopped_early] or ranking
    if not others:
        return f"{best.name} is the only run with a loss here: {best.loss:.4f}."
    tied = [one for one in others if one.tied]
    if not tied:
        chance = (
            "" if others[0].noise is None else f", and {others[0].noise:.4f} may be chance ({others[0].noise_source})"
        )
        return f"{best.name} is best with {best.loss:.4f}: {others[0].name} is {others[0].behind:.4f} behind{chance}."
    names = some(one.name for one in tied)
    if any(one.noise is None for one in tied):
        return (
            f"{best.name} has the lowest loss, {best.loss:.4f}, but whether its lead over {names} is more than chance "
            "is not known: repeat with other values of train.seed, or validate three times or more (train.eval_steps)."
        )
    return (
        f"No winner: {best.name} has the lowest loss, {best.loss:.4f}, and {names} cannot be told from it "
        f"(differences up to {max(one.noise or 0.0 for one in tied):.4f} may be chance, by {tied[0].noise_source})."
    )


def some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    first, rest = (told := list(names))[:MAX_NAMED], len(told) - MAX_NAMED
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")
