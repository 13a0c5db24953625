"""Compare runs: sets of losses that compare, a ranking in each, and warnings about those that do not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.compare_runs.choice import Choice, choose
from components.compare_runs.config import CompareConfig
from components.compare_runs.effects import Effect, effects
from components.compare_runs.ranking import Ranked, group_seeds, join_names, mean_loss, rank, verdict_of
from components.compare_runs.runs import ComparedRun, LossKind
from components.errors import ModelError


class ComparedSet(BaseModel):
    """Runs whose losses compare: measured on the same rows, with the same tokens, in the same way."""

    model_config = ConfigDict(frozen=True)

    label: str
    loss_kind: LossKind
    runs: list[str]
    improvements: Annotated[
        dict[str, float], Field(description="share by which a loss is under that of the first run that has one")
    ]
    ranking: list[Ranked]
    verdict: str
    effects: list[Effect]

    @property
    def best(self) -> str | None:
        """The run with the lowest loss, whether or not its lead is more than noise."""
        return self.ranking[0].runs[0] if self.ranking else None


class Comparison(BaseModel):
    """The content of a report; also written as JSON."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = 1
    config: CompareConfig
    runs: list[ComparedRun]
    sets: list[ComparedSet]
    choice: Choice | None
    each_on_each: Annotated[
        dict[str, dict[str, float]] | None,
        Field(description="loss by model, then by the run of the validation rows"),
    ] = None
    warnings: list[str]

    def run(self, name: str) -> ComparedRun:
        """The run of a name."""
        return next(run for run in self.runs if run.name == name)


def compare(
    runs: Sequence[ComparedRun], config: CompareConfig, each_on_each: dict[str, dict[str, float]] | None = None
) -> Comparison:
    """Compare ``runs``; the order is kept, and improvements are over the first run of each set.

    ``each_on_each`` has the losses of every model on every run's rows, where they were measured.

    Raises:
        ModelError: there are none, two have one name, or equal minutes are asked for and none has its minutes recorded.
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
        choice=choose(runs, _comparable_losses(runs, compared, each_on_each), limit=config.max_seconds_per_answer),
        each_on_each=each_on_each,
        warnings=[*_warnings(runs, compared), *_set_warnings(compared)],
    )


def _shortest_minutes(runs: Sequence[ComparedRun]) -> float:
    known = [run.minutes for run in runs if run.minutes and run.status == "finished" and not run.stopped_early]
    if not known:
        raise ModelError("equal minutes are asked for, and none of the runs has its minutes of training recorded")
    return min(known)


def _comparable_losses(
    runs: Sequence[ComparedRun], sets: Sequence[ComparedSet], each_on_each: dict[str, dict[str, float]] | None
) -> dict[str, float] | None:
    """Losses that compare over all runs, by name; None where there are none."""
    if each_on_each is not None:
        return {name: statistics.fmean(losses.values()) for name, losses in each_on_each.items()}
    if len(sets) > 1:
        return None
    return {run.name: run.loss for run in runs if run.loss is not None}


def _compare_set(runs: Sequence[ComparedRun], config: CompareConfig) -> ComparedSet:
    if config.at_minutes is not None:
        runs = [run.within(config.at_minutes) for run in runs]
    losses = {run.name: run.loss for run in runs}
    first, *others = [name for name, loss in losses.items() if loss is not None] or [runs[0].name]
    groups = group_seeds(runs, losses)
    ranking = rank(groups, losses)
    complete = [group for group in groups if not group[0].stopped_early]
    means = [(group[0].name, group[0].settings, mean_loss(group, losses)) for group in complete]
    return ComparedSet(
        label=_label(runs),
        loss_kind=runs[0].loss_kind,
        runs=[run.name for run in runs],
        improvements={name: 1 - loss / (losses[first] or 1.0) for name in others if (loss := losses[name])},
        ranking=ranking,
        verdict=verdict_of(ranking),
        effects=effects(means),
    )


def _label(runs: Sequence[ComparedRun]) -> str:
    data = dict.fromkeys(run.data.rsplit("/", 1)[-1] if run.data.startswith("/") else run.data for run in runs)
    return f"{runs[0].loss_kind} loss, data {'; '.join(data)}"


def _warnings(runs: Sequence[ComparedRun], sets: Sequence[ComparedSet]) -> list[str]:
    warnings = []
    hardware = sorted({run.hardware for run in runs if run.hardware})
    if len(hardware) > 1:
        warnings.append(f"Minutes and tokens/s are of different hardware and do not compare: {'; '.join(hardware)}.")
    if len(sets) > 1:
        warnings.append(
            f"Losses were measured in {len(sets)} ways (other rows, other tokens or another kind of loss), and are "
            "ranked separately; lorry report --each-on-each measures every model on every validation set."
        )
    return warnings + [f"{run.name}: {run.reason}" for run in runs if run.reason is not None]


def _set_warnings(sets: Sequence[ComparedSet]) -> list[str]:
    return [
        f"{join_names(compared.runs)}: only training losses are known, which say little about unseen rows; "
        "they also depend on the number of steps and on the last batches."
        for compared in sets
        if compared.loss_kind == "training"
    ]
