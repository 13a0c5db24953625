"""``lorry schedule``, and ``lorry schedules``: runs of a recipe by the clock."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.errors import RecipeError
from pipelines.commands.no_reuse import NoReuse, steps_without_reuse
from pipelines.commands.options import (
    DEFAULT_WORKDIR,
    Endpoint,
    Experiment,
    Namespace,
    PoolName,
    RecipePath,
    StoreAddress,
    WorkdirPath,
)
from pipelines.config.addresses import claims_in
from pipelines.config.recipe import load_recipe
from pipelines.config.steps import RUN_STEPS, names_of
from pipelines.config.sweep import is_sweep

if TYPE_CHECKING:
    from pipelines.cluster.cron import Cron
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.cluster.schedules import PlannedRuns

console = Console()
schedules = typer.Typer(no_args_is_help=True, help="Schedules of recipes on a cluster: list, pause, resume, delete.")
N_TIMES = 3

ScheduleName = Annotated[str, typer.Argument(metavar="SCHEDULE", help="a schedule's name (its recipe's), or its id")]


def schedule(
    recipe: RecipePath,
    cron: Annotated[
        str, typer.Option("--cron", help="when: minute hour day-of-month month day-of-week, UTC, such as '30 2 * * 1'")
    ],
    endpoint: Endpoint,
    namespace: Namespace = None,
    experiment: Experiment = "lorry",
    pool: PoolName = None,
    store: StoreAddress = None,
    context: Annotated[
        str | None, typer.Option(help="a context of your kubeconfig: check first whether the cluster has the PVCs")
    ] = None,
    no_reuse: NoReuse = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up/--no-catch-up", help="start the runs that a pause or a downtime left out")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="in place of the schedule of this name: another time, or the inputs anew")
    ] = False,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Run a recipe by the clock, one run at a time, with its inputs as they are now; unchanged steps are reused."""
    from pipelines.cluster.cron import read_cron
    from pipelines.cluster.schedules import settle
    from pipelines.terminal.progress import Progress

    when = read_cron(cron)
    if is_sweep(recipe):
        raise RecipeError(f"{recipe}: is a sweep; a schedule takes a recipe, such as a sweep's best")
    always = steps_without_reuse(no_reuse, names_of(RUN_STEPS))
    kubeflow = _kubeflow(endpoint, namespace)
    with Progress(console) as progress:
        progress.started("resolve")
        planned, experiment_id, pins = _plan(
            recipe,
            store,
            pool,
            context,
            kubeflow,
            experiment,
            always,
            workdir,
            lambda line: progress.line("resolve", line),
        )
        progress.finished("resolve")
        settled = settle(planned, when, kubeflow, experiment_id, catch_up=catch_up, replace=replace)
        progress.note(settled)
        progress.note(f"next (UTC): {_times(when)}")
        progress.note(pins)


def _plan(
    recipe: Path,
    store: str | None,
    pool: str | None,
    context: str | None,
    kubeflow: Kubeflow,
    experiment: str,
    no_reuse: tuple[str, ...],
    workdir: Path,
    report: Callable[[str], None],
) -> tuple[PlannedRuns, str, str]:
    """What the schedule is to start, the id of its experiment, and a line on what is pinned."""
    from pipelines.cluster.pvc_check import check_claims
    from pipelines.cluster.schedules import plan
    from pipelines.cluster.upload import require_store
    from pipelines.preflight.base_check import require_usable_bases
    from pipelines.preflight.split_check import check_split
    from pipelines.resolve.resolved_recipe import resolve

    loaded = load_recipe(recipe) if store is None else load_recipe(recipe).publishing_to(store)
    placement = loaded.placement.on(pool)
    check_split(loaded.split)
    if context is not None:
        check_claims(context, kubeflow.namespace or "kubeflow", placement, claims_in(loaded.addresses.values()))
    require_store(loaded.publish.store)
    experiment_id = kubeflow.experiment_id(experiment)
    resolved = resolve(loaded, workdir.absolute(), report)
    require_usable_bases([(resolved.base_model, resolved.train.lora_target_modules)], report)
    pins = ", ".join(f"{given.key} {str(given.revision)[:12]}" for given in resolved.inputs)
    return (
        plan(resolved, placement, kubeflow, experiment_id, report, no_reuse),
        experiment_id,
        f"each run takes the inputs as they are now (base_model {resolved.base_model.revision[:12]}, {pins}), also "
        "when what lies at their addresses changes; the same command with --replace takes them anew",
    )


@schedules.command(name="list")
def list_them(
    endpoint: Endpoint,
    namespace: Namespace = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, a list of schedules")] = False,
) -> None:
    """List the schedules that `lorry schedule` made, with state, cron line and next time."""
    from pipelines.cluster.schedules import schedules_of
    from pipelines.terminal.summary import show_schedules

    found = schedules_of(_kubeflow(endpoint, namespace))
    now = datetime.now(UTC)
    if as_json:
        print(json.dumps([one.as_json(now) for one in found], indent=2))
    elif found:
        show_schedules(console, [one.cells(now) for one in found])
    else:
        _say("no schedules; make one: lorry schedule RECIPE --cron '30 2 * * 1'")


@schedules.command()
def pause(schedule: ScheduleName, endpoint: Endpoint, namespace: Namespace = None) -> None:
    """Start no more runs until the schedule is resumed; a run that it has started goes on."""
    from pipelines.cluster.schedules import change

    paused = change(_kubeflow(endpoint, namespace), schedule, "disable")
    _say(f"paused: {paused.name}; go on with: lorry schedules resume {schedule}")


@schedules.command()
def resume(schedule: ScheduleName, endpoint: Endpoint, namespace: Namespace = None) -> None:
    """Start runs again by a schedule that was paused."""
    from pipelines.cluster.schedules import change

    resumed = change(_kubeflow(endpoint, namespace), schedule, "enable")
    _say(f"resumed: {resumed.name}; next (UTC): {_times(resumed.when)}")


@schedules.command()
def delete(schedule: ScheduleName, endpoint: Endpoint, namespace: Namespace = None) -> None:
    """Delete a schedule; its runs, and what they published, stay."""
    from pipelines.cluster.schedules import change

    deleted = change(_kubeflow(endpoint, namespace), schedule, "delete")
    _say(f"deleted: {deleted.name} ({deleted.schedule_id}); its runs stay: lorry runs list")


def _times(when: Cron | None) -> str:
    """The next times of a cron line, in words."""
    times = when.times(N_TIMES, datetime.now(UTC)) if when else []
    return ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in times) or "unknown"


def _kubeflow(endpoint: str, namespace: str | None) -> Kubeflow:
    from pipelines.cluster.kubeflow import Kubeflow

    return Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace)


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
