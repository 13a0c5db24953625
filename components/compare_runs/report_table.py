"""The table of a report: one row for each run of a set, as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.compare_runs.compare import ComparedSet, Comparison
from components.compare_runs.runs import ComparedRun
from components.modeling.token_loss import perplexity_of

# Columns that a terminal has no width for.
PAGE_COLUMNS = ("trainable", "hardware", "perplexity", "tokens/s", "size")


def table_of(
    comparison: Comparison, compared: ComparedSet, *, brief: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one set, all as text; a column that no run has a value for is left out.

    ``brief`` is for a terminal: only the columns in which runs differ.
    """
    rows = [_cells(comparison, compared, comparison.run(name)) for name in compared.runs]
    min_different = 2 if brief and len(rows) > 1 else 1
    headings = [
        heading
        for heading in rows[0]
        if any(row[heading] for row in rows)
        and (heading == "run" or len({row[heading] for row in rows}) >= min_different)
        and not (brief and heading in PAGE_COLUMNS)
    ]
    return headings, [[row[heading] for heading in headings] for row in rows]


def _cells(comparison: Comparison, compared: ComparedSet, run: ComparedRun) -> dict[str, str]:
    """The cells of a run, by heading; empty where there is no value."""
    minutes = comparison.config.at_minutes
    loss = run.loss if minutes is None else run.within(minutes).loss
    return {
        "run": run.name,
        "outcome": _outcome(run),
        "base": run.base_model.rsplit("/", 1)[-1],
        "data": short_data(run.data),
        "steps": str(run.steps),
        "learning rate": _cell(run.settings.get("learning_rate"), lambda value: f"{value:g}"),
        "rank": _cell(run.settings.get("lora_rank"), str),
        "alpha": _cell(run.settings.get("lora_alpha"), str),
        "trainable": _cell(run.trainable_parameters, lambda value: f"{value / 1e6:.2f} M"),
        "hardware": run.hardware or "",
        "loss": _cell(loss, lambda value: f"{value:.4f}"),
        "vs first": _cell(compared.improvements.get(run.name), lambda value: f"{-100 * value:+.1f} %"),
        "perplexity": "" if run.loss_kind == "training" else _cell(loss, lambda value: f"{perplexity_of(value):.3f}"),
        "minutes": _cell(run.minutes, lambda value: f"{value:.1f}"),
        "tokens/s": _cell(run.tokens_per_second, lambda value: f"{value:.0f}"),
        "size": _cell(run.figures.get("size_bytes"), lambda value: f"{value / 1e6:.1f} MB"),
    }


def _cell(value: Any, write: Callable[[Any], str]) -> str:
    return "" if value is None else write(value)


def short_data(data: str) -> str:
    """Addresses without their folders; the id of a hub data set as it is."""
    return ", ".join(one.rsplit("/", 1)[-1] if one.startswith("/") or "://" in one else one for one in data.split(", "))


def _outcome(run: ComparedRun) -> str:
    if run.status != "finished":
        return run.status.replace("_", " ")
    return "not continued" if run.stopped_early else ""
