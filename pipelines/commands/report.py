"""``lorry report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.errors import RecipeError

console = Console()


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="folders of runs (.lorry/runs/…), of sweeps (.lorry/sweeps/…), or a table of runs (.csv)"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for report.html, .md, .png and .json")] = Path(
        "report"
    ),
    at_minutes: Annotated[
        float | None, typer.Option(min=0.001, help="compare losses after so many minutes of training")
    ] = None,
    equal_minutes: Annotated[
        bool, typer.Option("--equal-minutes", help="compare losses at the minutes of the shortest run")
    ] = False,
    max_seconds_per_answer: Annotated[
        float | None, typer.Option(min=0.001, help="choose the best model whose served file answers within so many")
    ] = None,
    each_on_each: Annotated[
        bool, typer.Option("--each-on-each", help="measure every model on every run's validation rows (takes torch)")
    ] = False,
) -> None:
    """Compare runs: a table, the effect of each setting, which differences are noise, answers, and the choice."""
    from components.compare_runs.compare import compare
    from components.compare_runs.config import CompareConfig
    from components.compare_runs.report import write_reports
    from pipelines.local.run_folders import read_all
    from pipelines.terminal import summary

    if output.exists() and not output.is_dir():
        raise RecipeError(f"--output {output}: is a file; give a folder for the report")
    read = read_all(runs)
    config = CompareConfig(
        at_minutes=at_minutes, equal_minutes=equal_minutes, max_seconds_per_answer=max_seconds_per_answer
    )
    matrix = None
    if each_on_each:
        from pipelines.local.run_folders import measure_each_on_each

        matrix = measure_each_on_each(runs, lambda line: console.print(line, markup=False, highlight=False))
    comparison = compare(read, config, matrix)
    made = write_reports(comparison, output)
    summary.show_comparison(console, comparison)
    for path in made.values():
        console.print(path, markup=False, highlight=False, soft_wrap=True)
