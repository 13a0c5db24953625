"""``lorry sweep``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from components.errors import ModelError, RecipeError
from pipelines.commands.estimate import report_estimate
from pipelines.commands.no_reuse import NoReuse, steps_without_reuse
from pipelines.commands.options import (
    DEFAULT_WORKDIR,
    Context,
    Experiment,
    LookSeconds,
    Namespace,
    PipelineRoot,
    WorkdirPath,
)
from pipelines.commands.runs import follow_run, show_submitted
from pipelines.config.steps import SWEEP_STEPS, names_of

if TYPE_CHECKING:
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.config.sweep import LoadedSweep
    from pipelines.terminal.progress import Progress

console = Console()

RunBest = Annotated[bool, typer.Option("--run-best", help="then run the best recipe whole: evaluate, export, publish")]
ListTrials = Annotated[bool, typer.Option("--list", help="show the trials, and run nothing")]
SweepPath = Annotated[
    Path, typer.Argument(metavar="SWEEP", help="a sweep (YAML); the shipped ones lie in pipelines/recipes/sweeps")
]
SweepEndpoint = Annotated[
    str | None, typer.Option(help="address of Kubeflow Pipelines: run there; without it, on this machine")
]
SweepPool = Annotated[str | None, typer.Option("--pool", help="where trials train: t4, a100, cpu, or your own")]
SweepStore = Annotated[
    str | None, typer.Option(envvar="LORRY_STORE", help="in place of the recipe's publish.store, with --endpoint")
]
SweepWait = Annotated[bool, typer.Option("--wait", help="with --endpoint: follow the run, and end with its table")]


def sweep(
    document: SweepPath,
    run_best: RunBest = False,
    list_trials: ListTrials = False,
    endpoint: SweepEndpoint = None,
    namespace: Namespace = None,
    experiment: Experiment = "lorry",
    pool: SweepPool = None,
    store: SweepStore = None,
    context: Context = None,
    wait: SweepWait = False,
    look_seconds: LookSeconds = 5.0,
    no_reuse: NoReuse = None,
    pipeline_root: PipelineRoot = None,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Try settings of a recipe side by side, compare them in one table, and test the best on unseen rows."""
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.config.sweep import load_sweep
    from pipelines.preflight.split_check import check_splits
    from pipelines.terminal import summary
    from pipelines.terminal.progress import Progress

    always = steps_without_reuse(no_reuse, names_of(SWEEP_STEPS))
    loaded = load_sweep(document)
    if list_trials:
        summary.show_trials(console, loaded.settings)
    elif endpoint is None:
        _run_here(loaded, document, always, workdir, run_best=run_best)
    elif run_best:
        raise RecipeError("--run-best: with --endpoint, submit the best recipe of the report with lorry submit")
    else:
        check_splits(loaded.recipes.values())
        kubeflow = Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace)
        with Progress(console) as progress:
            run_id, sent = _submit(loaded, kubeflow, experiment, pool, store, always, workdir, progress)
            if wait:
                follow_run(kubeflow, run_id, progress, context, look_seconds, pipeline_root, workdir, sent)


def _run_here(loaded: LoadedSweep, document: Path, no_reuse: tuple[str, ...], workdir: Path, *, run_best: bool) -> None:
    """Run the sweep on this machine and show its table; with ``run_best``, then its best recipe."""
    from pipelines.local.run_recipe import run_recipe
    from pipelines.local.sweep import run_sweep
    from pipelines.local.workdir import Workdir
    from pipelines.preflight.base_check import require_usable_bases
    from pipelines.resolve.resolved_recipe import on_this_machine
    from pipelines.resolve.trials import resolve_sweep
    from pipelines.terminal import summary
    from pipelines.terminal.progress import Progress

    here = Workdir(workdir.absolute())
    with here.in_use(), Progress(console) as progress:
        progress.started("resolve")

        def report(line: str) -> None:
            progress.line("resolve", line)

        resolved = resolve_sweep(
            loaded,
            here.root,
            report,
            check_bases=lambda uses: require_usable_bases(uses, report),
            relocate=lambda recipe: on_this_machine(recipe, here.store),
        )
        progress.finished("resolve")
        result = run_sweep(resolved, here, progress, no_reuse)
    summary.show_sweep(console, result.comparison, result.test_losses, result.locations)
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
    report_estimate(loaded, placement, workdir.absolute(), report)
    run_id, sent = submit_sweep(resolved, placement, kubeflow, experiment_id, report, no_reuse)
    progress.finished("resolve")
    show_submitted(kubeflow, run_id, progress)
    return run_id, sent
