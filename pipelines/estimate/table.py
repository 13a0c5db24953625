"""An estimate for a person, as a table, as one line, and for a program."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.estimate.estimate import Estimate
from pipelines.estimate.limits import size
from pipelines.estimate.ranges import Range


def show_estimate(console: Console, estimate: Estimate) -> None:
    """Print an estimate, a row a step, and what cannot fit."""
    table = Table(title=f"{estimate.name} on {estimate.place.name}", title_justify="left", box=box.SIMPLE)
    columns = ["step", "minutes", "memory"]
    columns += ["GPU memory"] if estimate.gpu_bytes else []
    columns += ["cost"] if estimate.cost else []
    for heading in columns:
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for step in estimate.steps:
        row = [step.step, minutes(step.seconds), sizes(step.host_bytes)]
        row += [sizes(step.gpu_bytes) if step.gpu_bytes else ""] if estimate.gpu_bytes else []
        row += [money(step.cost, estimate.place.currency) if step.cost else ""] if estimate.cost else []
        table.add_row(*row)
    console.print(table)
    for line in lines_of(estimate):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def lines_of(estimate: Estimate) -> list[str]:
    """The totals, the sizes of files, where the figures come from, and what they leave out."""
    files, plan = estimate.model.sizes, estimate.model.plan
    is_sweep = any(step.step == "train_trial" for step in estimate.steps)
    trained = "the trial with the largest peak" if is_sweep else "training"
    lines = [
        f"in all: {minutes(estimate.seconds)} minutes{_cost(estimate)}",
        f"{trained}: {plan.n_steps} steps of {plan.n_tokens / max(plan.n_steps, 1):.0f} tokens",
        f"files: adapter {size(files.adapter)}, checkpoints {size(files.checkpoints)}, merged {size(files.merged)}, "
        f"f16 {size(files.f16)}, model {size(files.model)}; disk at most {size(files.disk)}",
        f"minutes by {source_of(estimate)}",
        *estimate.notes,
    ]
    return [*lines, *(shortage.line for shortage in estimate.shortages)]


def _cost(estimate: Estimate) -> str:
    if estimate.cost is not None:
        return f", {money(estimate.cost, estimate.place.currency)}"
    placement = estimate.place.placement
    return "" if placement is None else f"; no cost: placement.pools.{placement.pool}.price_per_hour is not set"


def source_of(estimate: Estimate) -> str:
    """Where the minutes of training come from."""
    if estimate.n_runs:
        return f"{estimate.n_runs} earlier trainings in the work folder"
    published = next(step.source for step in estimate.steps if step.step in ("train_lora", "train_trial"))
    return f"published figures ({published}); a run here makes them more certain"


def one_line(estimate: Estimate) -> str:
    """An estimate in a line."""
    peak = estimate.gpu_bytes or estimate.host_bytes
    what = "GPU memory" if estimate.gpu_bytes else "memory"
    source = f"{estimate.n_runs} earlier runs" if estimate.n_runs else "published figures"
    cost = "" if estimate.cost is None else f", {money(estimate.cost, estimate.place.currency)}"
    return (
        f"estimate on {estimate.place.name}: {minutes(estimate.seconds)} minutes, {what} {sizes(peak)}{cost}, by "
        f"{source}; its steps: lorry estimate"
    )


def refusal(estimate: Estimate) -> str:
    """Why an estimate is refused, and what would fit."""
    reasons = "; ".join(shortage.line for shortage in estimate.shortages if shortage.certain)
    if estimate.fixes:
        return f"{estimate.name}: {reasons}; what would fit: {'; or '.join(estimate.fixes)}"
    return f"{estimate.name}: {reasons}; no setting of the recipe makes it fit: choose a smaller base model"


def minutes(seconds: Range) -> str:
    """A range of seconds in minutes."""
    return f"{_number(seconds.value / 60)} ({_number(seconds.low / 60)} to {_number(seconds.high / 60)})"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 20 else f"{value:,.0f}"


def sizes(n_bytes: Range) -> str:
    """A range of bytes."""
    return f"{size(n_bytes.value)} ({size(n_bytes.low)} to {size(n_bytes.high)})"


def money(cost: Range, currency: str) -> str:
    """A range of costs."""
    return f"{currency} {cost.value:.2f} ({cost.low:.2f} to {cost.high:.2f})"


def as_json(estimate: Estimate) -> dict[str, Any]:
    """An estimate for a program; seconds, bytes and costs are ``[low, value, high]``."""
    return {
        "name": estimate.name,
        "place": estimate.place.name,
        "fits": estimate.fits,
        "seconds": _list(estimate.seconds),
        "memory_bytes": _list(estimate.host_bytes),
        "gpu_memory_bytes": _list(estimate.gpu_bytes),
        "cost": _list(estimate.cost),
        "currency": estimate.place.currency or None,
        "training_steps": estimate.model.plan.n_steps,
        "training_tokens": round(estimate.model.plan.n_tokens),
        "file_bytes": asdict(estimate.model.sizes),
        "calibrated_by_runs": estimate.n_runs,
        "source": source_of(estimate),
        "steps": [
            {
                "step": step.step,
                "machine": step.machine.name,
                "seconds": _list(step.seconds),
                "memory_bytes": _list(step.host_bytes),
                "gpu_memory_bytes": _list(step.gpu_bytes),
                "cost": _list(step.cost),
                "calibrated_by_runs": step.n_runs,
            }
            for step in estimate.steps
        ],
        "shortages": [shortage.line for shortage in estimate.shortages],
        "what_would_fit": list(estimate.fixes),
        "notes": list(estimate.notes),
    }


def _list(figure: Range | None) -> list[float] | None:
    return None if figure is None else [round(one, 2) for one in (figure.low, figure.value, figure.high)]
