"""``lorry runs``: the runs on a cluster: list, follow, logs, cancel, retry."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipelines.commands.no_reuse import step_named
from pipelines.commands.options import (
    DEFAULT_WORKDIR,
    Context,
    Endpoint,
    LookSeconds,
    Namespace,
    PipelineRoot,
    RunId,
    WorkdirPath,
)
from pipelines.config.steps import STEPS

if TYPE_CHECKING:
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.terminal.progress import Progress

console = Console()
runs = typer.Typer(
    no_args_is_help=True, help="Runs on a cluster: list them, follow one, read a step's log, end it, try it again."
)


def _kubeflow(endpoint: str, namespace: str | None) -> Kubeflow:
    from pipelines.cluster.kubeflow import Kubeflow

    return Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace)


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@runs.command(name="list")
def list_them(
    endpoint: Endpoint,
    namespace: Namespace = None,
    experiment: Annotated[str | None, typer.Option(help="only the runs of this experiment")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many, the newest first")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, a list of runs")] = False,
) -> None:
    """List runs, the newest first, with state, minutes and recipe."""
    from pipelines.cluster.runs import list_runs
    from pipelines.terminal.summary import show_runs

    found = list_runs(_kubeflow(endpoint, namespace), limit, experiment)
    if as_json:
        print(json.dumps([run.as_json() for run in found], indent=2))
    elif found:
        show_runs(console, [run.cells for run in found])
    else:
        _say(f"no runs yet; start one: lorry submit RECIPE --endpoint {endpoint}")


@runs.command()
def follow(
    run: RunId,
    endpoint: Endpoint,
    namespace: Namespace = None,
    context: Context = None,
    look_seconds: LookSeconds = 5.0,
    pipeline_root: PipelineRoot = None,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Follow a run or a sweep that was submitted, and end with its figures."""
    from pipelines.cluster.runs import find_run
    from pipelines.terminal.progress import Progress

    kubeflow = _kubeflow(endpoint, namespace)
    run_id = find_run(kubeflow, run, _store())
    with Progress(console) as progress:
        follow_run(kubeflow, run_id, progress, context, look_seconds, pipeline_root, workdir)


@runs.command()
def logs(
    run: RunId,
    step: Annotated[str, typer.Argument(metavar="STEP", help="a step, such as train_lora; see lorry runs follow")],
    endpoint: Endpoint,
    namespace: Namespace = None,
    tail: Annotated[int | None, typer.Option(min=1, help="only as many of the last lines")] = None,
    context: Annotated[
        str | None, typer.Option(help="a context of your kubeconfig, where the pods are (default: the current one)")
    ] = None,
    pipeline_root: PipelineRoot = None,
) -> None:
    """Print the log of a step: from its pod while it runs, from Kubeflow's store afterwards."""
    from pipelines.cluster.kubectl import Kubectl
    from pipelines.cluster.runs import find_run
    from pipelines.cluster.step_logs import own_lines, step_log

    name = step_named(step, tuple(STEPS), "STEP")
    kubeflow = _kubeflow(endpoint, namespace)
    kubectl = Kubectl(context, namespace or "kubeflow")
    for log in step_log(kubeflow, kubectl, find_run(kubeflow, run, _store()), name, pipeline_root):
        typer.echo(f"# {log.address}", err=True)
        for line in own_lines(log.lines)[-(tail or 0) :]:
            typer.echo(line)


@runs.command()
def cancel(run: RunId, endpoint: Endpoint, namespace: Namespace = None) -> None:
    """End a run; training writes a checkpoint first, and a retry or the same submission goes on from it."""
    from pipelines.cluster.runs import cancel, find_run

    kubeflow = _kubeflow(endpoint, namespace)
    run_id = find_run(kubeflow, run, _store())
    cancel(kubeflow, run_id)
    _say(f"asked to end: {kubeflow.page_of(run_id)}\ngo on with it later: lorry runs retry {run_id} {_at(kubeflow)}")


@runs.command()
def retry(run: RunId, endpoint: Endpoint, namespace: Namespace = None) -> None:
    """Start a run that failed or was canceled again; finished steps stay, training goes on from its checkpoint."""
    from pipelines.cluster.runs import find_run, retry

    kubeflow = _kubeflow(endpoint, namespace)
    run_id = find_run(kubeflow, run, _store())
    retry(kubeflow, run_id)
    _say(f"started again: {kubeflow.page_of(run_id)}\nfollow it: lorry runs follow {run_id} {_at(kubeflow)}")


def _store() -> str | None:
    """The store that the environment names: a run that Kubeflow does not know may be in it."""
    return os.environ.get("LORRY_STORE") or None


def _at(kubeflow: Kubeflow) -> str:
    return f"--endpoint {kubeflow.endpoint}" + (f" --namespace {kubeflow.namespace}" if kubeflow.namespace else "")


def show_submitted(kubeflow: Kubeflow, run_id: str, progress: Progress) -> None:
    """Print the address of a run's page."""
    from pipelines.graph.images import load_settings

    if load_settings().registry.startswith("localhost"):
        progress.note("the images are named localhost/…: only a cluster on this machine has them (LORRY_REGISTRY)")
    progress.note(f"submitted: {kubeflow.page_of(run_id)}")


def follow_run(
    kubeflow: Kubeflow,
    run_id: str,
    progress: Progress,
    context: str | None,
    look_seconds: float,
    pipeline_root: str | None,
    workdir: Path,
    sent: dict[str, Any] | None = None,
) -> None:
    """Show a run's steps until it ends, and then what it measured; ``sent`` are its parameters, where they are known.

    Raises:
        StepFailedError: it failed, or somebody ended it.
        LorryError: the endpoint or the store is gone.
        KeyboardInterrupt: the run goes on; how to follow and end it is printed.
    """
    from pipelines.cluster.follow import Following
    from pipelines.cluster.pods import RunPods
    from pipelines.cluster.submit import figures_of
    from pipelines.cluster.sweep import fetch_sweep
    from pipelines.terminal import summary

    page = kubeflow.page_of(run_id)
    pods = RunPods(context, kubeflow.namespace or "kubeflow", run_id)
    try:
        following = Following(kubeflow, run_id, progress, pods, look_seconds, pipeline_root, sent or {})
        facts = following.until_the_end()
    except KeyboardInterrupt:
        at = _at(kubeflow)
        progress.note(
            f"no longer followed; the run goes on: {page}\nfollow it again: lorry runs follow {run_id} {at}\n"
            f"end it: lorry runs cancel {run_id} {at}"
        )
        raise
    progress.stop()
    if facts.store is None:
        progress.note(f"its figures lie on the cluster's volume, and on the page: {page}")
    elif facts.is_sweep:
        result = fetch_sweep(facts.store, run_id, workdir.absolute() / "sweeps" / facts.name)
        summary.show_sweep(console, result.comparison, result.test_losses, result.locations)
        progress.note(f"{'page':<26}{page}")
    else:
        figures = figures_of(facts.store, facts.figures_name)
        model = figures["model"]
        image = {"image": str(model["image"])} if "image" in model else {}
        locations = {"model": f"{model['store']}/models/{model['sha256']}", **image, "page": page}
        summary.show(console, run_id, figures, progress.minutes, locations)
