"""Which model to serve: the best one whose answers come in time, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.compare_runs.runs import ComparedRun

SECONDS = "quantized_seconds_per_answer"


class Choice(BaseModel):
    """The chosen run, or None, and the reason."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str | None, Field(description="None: none is in time, or quality does not compare")]
    reason: str


def choose(runs: Sequence[ComparedRun], quality: Mapping[str, float] | None, *, limit: float | None) -> Choice | None:
    """The run with the lowest loss among those whose quantized file answers within ``limit`` seconds.

    ``quality`` has losses that compare, None where there are none. None where no limit is asked for.
    """
    if limit is None:
        return None
    timed = {run.name: run.figures[SECONDS] for run in runs if SECONDS in run.figures}
    if not timed:
        return Choice(
            name=None,
            reason=f"No run has timed answers, so none can be held against {limit:g} s: name a prompts file in "
            "evaluate.prompts and run the recipes again.",
        )
    in_time = [run for run in runs if run.name in timed and timed[run.name] <= limit]
    late = [f"{name} ({seconds:.1f} s)" for name, seconds in timed.items() if seconds > limit]
    too_slow = f" Too slow: {', '.join(late)}." if late else ""
    if not in_time:
        return Choice(name=None, reason=f"No model answers within {limit:g} s.{too_slow}")
    if len(in_time) == 1:
        name = in_time[0].name
        return Choice(
            name=name, reason=f"{name} alone answers within {limit:g} s, in {timed[name]:.1f} s on average.{too_slow}"
        )
    if quality is None:
        return Choice(
            name=None,
            reason=f"{', '.join(run.name for run in in_time)} answer within {limit:g} s, but their losses are of "
            f"different rows and do not compare: measure each on each (--each-on-each).{too_slow}",
        )
    best = min((run.name for run in in_time if run.name in quality), key=lambda name: quality[name], default=None)
    if best is None:
        return Choice(name=None, reason=f"No model in time has a loss.{too_slow}")
    return Choice(
        name=best,
        reason=f"{best} has the lowest loss ({quality[best]:.4f}) of the {len(in_time)} models that answer within "
        f"{limit:g} s; it takes {timed[best]:.1f} s on average.{too_slow}",
    )
