"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

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
