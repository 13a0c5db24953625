"""Choose the model to serve: the one with the lowest loss that answers within the time limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.compare_runs.runs import ComparedRun

SECONDS = "quantized_seconds_per_answer"


class Choice(BaseModel):
    """The chosen run, or None, and the reason."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str | None, Field(description="None: no model is within the limit, or the losses do not compare")]
    reason: str


def choose(runs: Sequence[ComparedRun], losses: Mapping[str, float] | None, *, limit: float | None) -> Choice | None:
    """The run with the lowest loss among those whose quantized file answers within ``limit`` seconds.

    ``losses`` are those that compare, None where they do not. The choice is None where no limit is set.
    """
    if limit is None:
        return None
    timed = {run.name: run.figures[SECONDS] for run in runs if SECONDS in run.figures}
    if not timed:
        return Choice(
            name=None,
            reason=f"No run has timed answers to compare with the limit of {limit:g} s: name a prompts file in "
            "evaluate.prompts and run the recipes again.",
        )
    in_time = [name for name, seconds in timed.items() if seconds <= limit]
    late = [f"{name} ({seconds:.1f} s)" for name, seconds in timed.items() if seconds > limit]
    too_slow = f" Too slow: {', '.join(late)}." if late else ""
    if not in_time:
        return Choice(name=None, reason=f"No model answers within {limit:g} s.{too_slow}")
    if len(in_time) == 1:
        (name,) = in_time
        return Choice(
            name=name, reason=f"Only {name} answers within {limit:g} s, in {timed[name]:.1f} s on average.{too_slow}"
        )
    best, reason = _lowest_loss(in_time, losses, f"within {limit:g} s")
    if best is not None:
        reason += f"; it takes {timed[best]:.1f} s on average"
    return Choice(name=best, reason=f"{reason}.{too_slow}")


def _lowest_loss(names: Sequence[str], losses: Mapping[str, float] | None, within: str) -> tuple[str | None, str]:
    """The name of the lowest loss, or None, and the reason."""
    if losses is None:
        return None, (
            f"{', '.join(names)} answer {within}, but their losses are of different rows and do not compare: "
            "measure every model on every validation set (--each-on-each)"
        )
    best = min((name for name in names if name in losses), key=lambda name: losses[name], default=None)
    if best is None:
        return None, f"No model that answers {within} has a loss"
    return best, f"{best} has the lowest loss ({losses[best]:.4f}) of the {len(names)} models that answer {within}"
