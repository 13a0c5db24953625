"""Tables on the terminal: the end of a run, a sweep, a comparison of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from components.compare_runs.compare import Comparison
from components.compare_runs.report_table import table_of
from pipelines.config.figures import Figures
from pipelines.config.steps import RUN_STEPS


def show(
    console: Console,
    run: str,
    figures: Mapping[str, Figures],
    minutes: Mapping[str, float],
    locations: Mapping[str, Path | str],
) -> None:
    """Print what a run measured, by step, and the ``locations`` (paths, addresses) of what it made."""
    table = Table(title=f"Run {run}", show_header=True)
    for heading in ("step", "time", "figures"):
        table.add_column(heading, overflow="fold")
    for step in RUN_STEPS:
        if measured := figures.get(step.name):
            spent = minutes.get(step.name, 0.0) * 60
            table.add_row(step.name, f"{spent:.0f} s" if spent else "reused", "\n".join(step.describe(measured)))
    console.print(table)
    for label, location in locations.items():
        console.print(f"{label:<20}{location}", markup=False, highlight=False, soft_wrap=True)


def show_runs(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print runs on a cluster: name, state, when it was created (UTC), minutes, recipe, id."""
    _show_list(console, ("name", "state", "created (UTC)", "minutes", "recipe", "run id"), rows)


def show_schedules(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print schedules: name, whether it is paused, its cron line, the next time, id."""
    _show_list(console, ("name", "state", "cron (UTC)", "next (UTC)", "schedule id"), rows)


def _show_list(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as kubectl does: a row is one line however narrow the terminal is, since ids are copied."""
    lines = [[heading.upper() for heading in headings], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        text = "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_sweep(
    console: Console, comparison: Comparison, test_losses: Sequence[str], locations: Mapping[str, Path]
) -> None:
    """Print a sweep's comparison, its winners' losses on the test rows, and the paths of its reports."""
    show_comparison(console, comparison)
    for line in test_losses:
        console.print(line, markup=False, highlight=False)
    for label, location in locations.items():
        console.print(f"{label:<26}{location}", markup=False, highlight=False, soft_wrap=True)


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Print the tables of a comparison with its verdicts, warnings and choice."""
    for compared in comparison.sets:
        headings, rows = table_of(comparison, compared, brief=True)
        table = Table(title=compared.label, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
        for heading in headings:
            # Names of trials are long, and matter most.
            table.add_column(heading, overflow="fold", min_width=16 if heading == "run" else None)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print(compared.verdict, markup=False, highlight=False)
    if comparison.config.at_minutes:
        console.print(f"Losses are the last within {comparison.config.at_minutes:g} minutes of training.", markup=False)
    for line in comparison.warnings:
        console.print(f"note: {line}", markup=False, highlight=False)
    if comparison.choice:
        console.print(f"choice: {comparison.choice.name or 'none'}. {comparison.choice.reason}", markup=False)


def show_trials(console: Console, settings: Mapping[str, Mapping[str, object]]) -> None:
    """Print the trials of a sweep with the settings in which they differ."""
    table = Table(title=f"{len(settings)} trials", title_justify="left")
    table.add_column("trial")
    keys = list(dict.fromkeys(key for own in settings.values() for key in own))
    keys = [key for key in keys if len({str(own.get(key)) for own in settings.values()}) > 1]
    for key in keys:
        table.add_column(key)
    for name, own in settings.items():
        table.add_row(name, *(str(own.get(key, "")) for key in keys))
    console.print(table)
