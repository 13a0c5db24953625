"""The commands that compare and hand on: ``lorry sweep``, ``lorry report`` and ``lorry push``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from components.errors import ModelError, RecipeError
from pipelines.commands.cluster import (
    DEFAULT_WORKDIR,
    Context,
    Experiment,
    LookSeconds,
    Namespace,
    PipelineRoot,
    WorkdirPath,
    follow_run,
    say_submitted,
)
from pipelines.commands.no_reuse import NoReuse, steps_without_reuse
from pipelines.config.steps import SWEEP_STEPS, names_of

if TYPE_CHECKING:
    from components.compare_runs.compare import Comparison
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.config.sweep import LoadedSweep
    from pipelines.local.sweep import SweepResult
    from pipelines.terminal.progress import Progress

console = Console()


def sweep(
    document: Annotated[
        Path, typer.Argument(metavar="SWEEP", help="a sweep (YAML); the shipped ones lie in pipelines/recipes/sweeps")
    ],
    run_best: Annotated[
        bool, typer.Option("--run-best", help="then run the best recipe whole: evaluate, export, publish")
    ] = False,
    list_trials: Annotated[bool, typer.Option("--list", help="show the trials, and run nothing")] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="address of Kubeflow Pipelines: run there; without it, on this machine")
    ] = None,
    namespace: Namespace = None,
    experiment: Experiment = "lorry",
    pool: Annotated[str | None, typer.Option("--pool", help="where trials train: t4, a100, cpu, or your own")] = None,
    store: Annotated[
        str | None,
        typer.Option(envvar="LORRY_STORE", help="in place of the recipe's publish.store, with --endpoint"),
    ] = None,
    context: Context = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="with --endpoint: follow the run, and end with its table")
    ] = False,
    look_seconds: LookSeconds = 5.0,
    no_reuse: NoReuse = None,
    pipeline_root: PipelineRoot = None,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Try settings of a recipe side by side, compare them in one table, and test the best on unseen rows."""
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.config.sweep import load_sweep
    from pipelines.local.run_recipe import run_recipe
    from pipelines.local.sweep import run_sweep
    from pipelines.local.workdir import Workdir
    from pipelines.preflight.base_check import require_usable_bases
    from pipelines.preflight.split_check import rehearse_splits
    from pipelines.resolve.resolved_recipe import on_this_machine
    from pipelines.resolve.trials import resolve_sweep
    from pipelines.terminal.progress import Progress

    always = steps_without_reuse(no_reuse, names_of(SWEEP_STEPS))
    loaded = load_sweep(document)
    if list_trials:
        _show_trials(loaded.settings)
        return
    if endpoint is not None:
        if run_best:
            raise RecipeError("--run-best: with --endpoint, submit the best recipe of the report with lorry submit")
        rehearse_splits(loaded.recipes.values())
        kubeflow = Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace)
        with Progress(console) as progress:
            run_id, sent = _submit(loaded, kubeflow, experiment, pool, store, always, workdir, progress)
            if wait:
                follow_run(kubeflow, run_id, progress, context, look_seconds, pipeline_root, workdir, sent)
        return
    here = Workdir(workdir.absolute())
    with Progress(console) as progress:
        progress.started("resolve")
        resolved = resolve_sweep(
            loaded,
            here.root,
            lambda line: progress.line("resolve", line),
            check_bases=lambda uses: require_usable_bases(uses, lambda line: progress.line("resolve", line)),
            relocate=lambda recipe: on_this_machine(recipe, here.store),
        )
        progress.finished("resolve")
        result = run_sweep(resolved, here, progress, always)
    show_sweep(result)
    if not run_best:
        return
    if result.best_recipe is None:
        raise ModelError(f"--run-best: no trial of {document} has a loss; see the table's last column")
    run_recipe(console, result.best_recipe, here)


def _submit(
    loaded: LoadedSweep,
    kubeflow: Kubeflow,
    experiment: str,
    pool: str | None,
    store: str | None,
    no_reuse: tuple[str, ...],
    workdir: Path,
    progress: Progress,
) -> tuple[str, dict[str, Any]]:
    """Start the sweep on a cluster; give the run's id, and its parameters."""
    from pipelines.cluster.sweep import submit_sweep
    from pipelines.cluster.upload import require_store, upload_inputs
    from pipelines.preflight.base_check import require_usable_bases
    from pipelines.resolve.trials import resolve_sweep

    if store is not None:
        loaded = loaded.publishing_to(store)
    placement = loaded.base.placement.on(pool)
    require_store(loaded.base.publish.store)
    experiment_id = kubeflow.experiment_id(experiment)
    progress.started("resolve")

    def report(line: str) -> None:
        progress.line("resolve", line)

    namespace = kubeflow.namespace or "kubeflow"
    resolved = resolve_sweep(
        loaded,
        workdir.absolute(),
        report,
        check_bases=lambda uses: require_usable_bases(uses, report),
        relocate=lambda recipe: upload_inputs(recipe, namespace, report),
    )
    run_id, sent = submit_sweep(resolved, placement, kubeflow, experiment_id, report, no_reuse)
    progress.finished("resolve")
    say_submitted(kubeflow, run_id, progress)
    return run_id, sent


def show_sweep(result: SweepResult) -> None:
    """The tables of a sweep on the terminal, its winners on the test rows, and where its reports lie."""
    _show(result.comparison)
    for line in result.test_losses:
        console.print(line, markup=False, highlight=False)
    for label, location in result.locations.items():
        console.print(f"{label:<26}{location}", markup=False, highlight=False, soft_wrap=True)


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
    _show(comparison)
    for path in made.values():
        console.print(path, markup=False, highlight=False, soft_wrap=True)


def push(
    repository: Annotated[str, typer.Argument(help="owner/name on the hub; made where it is not there")],
    run: Annotated[
        Path | None, typer.Option(help="folder of a finished run; without it, the last one in --workdir")
    ] = None,
    private: Annotated[bool, typer.Option("--private/--public", help="who may see a repository that is made")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the card and the files, and send nothing")] = False,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Put a run's adapter, GGUF file and model card into a repository of the hub (a token that may write: HF_TOKEN)."""
    from pipelines.local.workdir import Workdir
    from pipelines.publish.push import card_of, files_of, find_run
    from pipelines.publish.push import push as push_run

    result = find_run(run, Workdir(workdir.absolute()))
    card = card_of(result, repository)
    if dry_run:
        console.print(card, markup=False, highlight=False, soft_wrap=True)
        for name, path in files_of(result):
            console.print(f"{name}: {path.stat().st_size / 1e6:.1f} MB", markup=False, highlight=False)
        return
    address = push_run(
        result,
        repository,
        card,
        private=private,
        report=lambda line: console.print(line, markup=False, highlight=False),
    )
    console.print(f"pushed: {address}", markup=False, highlight=False, soft_wrap=True)


def _show(comparison: Comparison) -> None:
    """The tables of a comparison on the terminal, with what is to be known of them."""
    from components.compare_runs.report_table import table_of

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


def _show_trials(settings: dict[str, dict[str, object]]) -> None:
    table = Table(title=f"{len(settings)} trials", title_justify="left")
    table.add_column("trial")
    keys = list(dict.fromkeys(key for own in settings.values() for key in own))
    keys = [key for key in keys if len({str(own.get(key)) for own in settings.values()}) > 1]
    for key in keys:
        table.add_column(key)
    for name, own in settings.items():
        table.add_row(name, *(str(own.get(key, "")) for key in keys))
    console.print(table)
