"""Compare runs: sets of losses that compare, a ranking in each, and what cannot be told."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.compare_runs.choice import Choice, choose
from components.compare_runs.config import CompareConfig
from components.compare_runs.effects import Effect, effects
from components.compare_runs.noise import Noise, noise_of_evaluations, noise_of_seeds, seed_deviation
from components.compare_runs.runs import ComparedRun, LossKind
from components.errors import ModelError

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
    tied: Annotated[bool, Field(description="cannot be told from the first, or it is not known whether it can")]


class ComparedSet(BaseModel):
    """Runs whose losses compare: measured on the same rows, with the same tokens, in the same way."""

    model_config = ConfigDict(frozen=True)

    label: str
    loss_kind: LossKind
    runs: list[str]
    improvements: Annotated[
        dict[str, float | None], Field(description="share by which a loss is under the first run's")
    ]
    ranking: list[Ranked]
    verdict: str
    effects: list[Effect]

    @property
    def best(self) -> str | None:
        """The run with the lowest loss, whether or not that is more than chance."""
        return self.ranking[0].runs[0] if self.ranking else None


class Comparison(BaseModel):
    """Everything that a report shows, as JSON too."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = 1
    config: CompareConfig
    runs: list[ComparedRun]
    sets: list[ComparedSet]
    choice: Choice | None
    each_on_each: Annotated[
        dict[str, dict[str, float]] | None, Field(description="loss by model, then by whose validation rows")
    ] = None
    warnings: list[str]

    def run(self, name: str) -> ComparedRun:
        """The run of a name."""
        return next(run for run in self.runs if run.name == name)


def compare(
    runs: Sequence[ComparedRun], config: CompareConfig, each_on_each: dict[str, dict[str, float]] | None = None
) -> Comparison:
    """Compare ``runs``; the order is kept, and the first of each set is what improvements are over.

    ``each_on_each`` has losses of every model on every run's rows, where they were measured.

    Raises:
        ModelError: there are none, two have one name, or none knows its minutes where equal ones are asked for.
    """
    if not runs:
        raise ModelError("no runs to compare; give the folders of at least one run")
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"two runs are named {twice[0]!r}; give each folder once, or rename one")
    if config.equal_minutes:
        config = config.model_copy(update={"at_minutes": _shortest_minutes(runs)})
    sets: dict[tuple[str, LossKind], list[ComparedRun]] = {}
    for run in runs:
        sets.setdefault((run.measured_on, run.loss_kind), []).append(run)
    compared = [_compare_set(own, config) for own in sets.values()]
    return Comparison(
        config=config,
        runs=list(runs),
        sets=compared,
        choice=choose(runs, _quality(runs, compared, each_on_each), limit=config.max_seconds_per_answer),
        each_on_each=each_on_each,
        warnings=[*_warnings(runs, compared), *_set_warnings(compared)],
    )


def _shortest_minutes(runs: Sequence[ComparedRun]) -> float:
    known = [run.minutes for run in runs if run.minutes and run.status == "finished"]
    if not known:
        raise ModelError("equal minutes are asked for, and none of the runs knows its minutes of training")
    return min(known)


def _quality(
    runs: Sequence[ComparedRun], sets: Sequence[ComparedSet], each_on_each: dict[str, dict[str, float]] | None
) -> dict[str, float] | None:
    """A loss of every run that compares with all others': None where there is no such."""
    if each_on_each is not None:
        return {name: statistics.fmean(losses.values()) for name, losses in each_on_each.items()}
    if len(sets) > 1:
        return None
    return {run.name: run.loss for run in runs if run.loss is not None}


def _compare_set(runs: Sequence[ComparedRun], config: CompareConfig) -> ComparedSet:
    losses = {run.name: _loss(run, config) for run in runs}
    first = losses[runs[0].name]
    candidates = _candidates(runs, losses)
    ranking = _ranking(candidates, losses)
    means = [(own[0].name, own[0].settings, _mean(own, losses)) for own in candidates]
    return ComparedSet(
        label=_label(runs),
        loss_kind=runs[0].loss_kind,
        runs=[run.name for run in runs],
        improvements={
            name: None if loss is None or first is None else 1 - loss / first for name, loss in losses.items()
        },
        ranking=ranking,
        verdict=_verdict(ranking, runs),
        effects=effects(means),
    )


def _loss(run: ComparedRun, config: CompareConfig) -> float | None:
    return run.loss if config.at_minutes is None else run.loss_before(config.at_minutes)


def _label(runs: Sequence[ComparedRun]) -> str:
    data = dict.fromkeys(run.data.rsplit("/", 1)[-1] if run.data.startswith("/") else run.data for run in runs)
    return f"{runs[0].loss_kind} loss, data {'; '.join(data)}"


def _candidates(runs: Sequence[ComparedRun], losses: dict[str, float | None]) -> list[list[ComparedRun]]:
    """Runs with a loss, those together that differ in their seed alone."""
    found: list[list[ComparedRun]] = []
    for run in runs:
        if losses[run.name] is None:
            continue
        for own in found:
            alike = own[0].settings == run.settings and own[0].stopped_early == run.stopped_early
            if alike and None not in (own[0].seed, run.seed):
                own.append(run)
                break
        else:
            found.append([run])
    return found


def _mean(runs: Sequence[ComparedRun], losses: dict[str, float | None]) -> float:
    return statistics.fmean(loss for run in runs if (loss := losses[run.name]) is not None)


def _ranking(candidates: Sequence[Sequence[ComparedRun]], losses: dict[str, float | None]) -> list[Ranked]:
    # A trial that a sweep gave up has trained less: it stands behind those that were continued.
    ordered = sorted(candidates, key=lambda own: (own[0].stopped_early, _mean(own, losses)))
    deviation = seed_deviation([[loss for run in own if (loss := losses[run.name]) is not None] for own in candidates])
    ranking = []
    for rank, own in enumerate(ordered, start=1):
        behind = _mean(own, losses) - _mean(ordered[0], losses)
        noise = _noise(ordered[0], own, deviation) if rank > 1 else None
        ranking.append(
            Ranked(
                rank=rank,
                name=own[0].name if len(own) == 1 else f"{own[0].name} ({len(own)} seeds)",
                runs=[run.name for run in own],
                loss=_mean(own, losses),
                behind=behind,
                noise=None if noise is None else noise.nats,
                noise_source=None if noise is None else noise.source,
                tied=rank > 1 and not own[0].stopped_early and (noise is None or abs(behind) <= noise.nats),
            )
        )
    return ranking


def _noise(first: Sequence[ComparedRun], other: Sequence[ComparedRun], deviation: float | None) -> Noise | None:
    if deviation is not None:
        return noise_of_seeds(deviation, len(first), len(other))
    return noise_of_evaluations(first[0], other[0])


def _verdict(ranking: Sequence[Ranked], runs: Sequence[ComparedRun]) -> str:
    if not ranking:
        return "No run has a loss to rank."
    best, *others = ranking
    if not others:
        return f"{best.name} is the only run with a loss here: {best.loss:.4f}."
    tied = [one for one in others if one.tied]
    if not tied:
        chance = (
            "" if others[0].noise is None else f", and {others[0].noise:.4f} may be chance ({others[0].noise_source})"
        )
        return f"{best.name} is best with {best.loss:.4f}: {others[0].name} is {others[0].behind:.4f} behind{chance}."
    names = _some(one.name for one in tied)
    if any(one.noise is None for one in tied):
        return (
            f"{best.name} has the lowest loss, {best.loss:.4f}, but whether its lead over {names} is more than chance "
            "is not known: repeat with other values of train.seed, or validate three times or more (train.eval_steps)."
        )
    return (
        f"No winner: {best.name} has the lowest loss, {best.loss:.4f}, and {names} cannot be told from it "
        f"(differences up to {max(one.noise or 0.0 for one in tied):.4f} may be chance, by {tied[0].noise_source})."
    )


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    first, rest = (told := list(names))[:MAX_NAMED], len(told) - MAX_NAMED
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")


def _warnings(runs: Sequence[ComparedRun], sets: Sequence[ComparedSet]) -> list[str]:
    told = []
    hardware = sorted({run.hardware for run in runs if run.hardware})
    if len(hardware) > 1:
        told.append(f"Minutes and tokens/s are of different hardware and do not compare: {'; '.join(hardware)}.")
    if len(sets) > 1:
        told.append(
            f"Losses were measured in {len(sets)} ways (other rows, other tokens or another kind of loss), and are "
            "ranked in each alone; lorry report --each-on-each measures every model on every validation set."
        )
    return told + [f"{run.name}: {run.reason}" for run in runs if run.reason is not None]


def _set_warnings(sets: Sequence[ComparedSet]) -> list[str]:
    told = []
    for compared in sets:
        if compared.loss_kind == "training":
            told.append(
                f"{_some(compared.runs)}: only training losses are known, which say little of unseen rows; "
                "differences of step count and of the last batches are in them."
            )
    return told
