"""``lorry gc``: list what can go from stores, checkpoints, work folders and volumes, and delete it when asked to."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.errors import RecipeError
from pipelines.commands.options import DEFAULT_WORKDIR, Namespace

if TYPE_CHECKING:
    from pipelines.garbage.knowledge import Sources
    from pipelines.garbage.places import Place

console = Console()
_LENGTHS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
_DURATION = re.compile(r"^(\d+)([wdhm])$")


def gc(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLACE]...",
            help="s3://bucket/folder, gs://bucket/folder, a folder (a work folder, a store or a checkpoint root), or "
            "pvc://claim[/folder]; default: the work folder. Several given together know of each other's parts",
        ),
    ] = None,
    keep: Annotated[int, typer.Option(min=0, help="how many of the newest models, runs and checkpoints stay")] = 5,
    older_than: Annotated[
        str, typer.Option(help="what is younger stays: a number with w, d, h or m, such as 30d or 12h")
    ] = "30d",
    overlay: Annotated[
        list[Path] | None, typer.Option(help="an overlay whose pinned models stay; repeat it for each that there is")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help="a context of your kubeconfig: the models that its Deployments and ReplicaSets name stay"),
    ] = None,
    no_cluster: Annotated[
        bool, typer.Option("--no-cluster", help="ask no cluster; what it serves is then known by --overlay alone")
    ] = False,
    namespace: Namespace = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="KFP_ENDPOINT", help="Kubeflow Pipelines: what its active runs and its schedules use stays"
        ),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="delete what the list shows, after a question")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with --delete: do not ask")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the kubectl commands that this would run, and run none")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with every part that stays")] = False,
    workdir: Annotated[
        Path, typer.Option("--workdir", envvar="LORRY_WORKDIR", help="the work folder, where no place is given")
    ] = DEFAULT_WORKDIR,
) -> None:
    """List what can go: models, runs, inputs, checkpoints, step outputs; --delete deletes it.

    What stays: the store's current model, those that an overlay or a cluster names, the newest of each kind, what is
    young, what a run is writing or reading now, and what any of these needs. Nothing that is not Lorry's is touched.
    """
    from pipelines.garbage.collect import delete as delete_plan
    from pipelines.garbage.collect import make_plan
    from pipelines.garbage.table import as_json as json_of
    from pipelines.garbage.table import show, show_outcomes

    age = parse_duration(older_than)
    if delete and as_json and not yes:
        raise RecipeError("--delete --json: asks no question; give --yes as well")
    found = _places(places or [str(workdir)], context, namespace)
    sources = _sources(found, overlay or [], context, namespace, endpoint, no_cluster=no_cluster)
    if dry_run:
        _print_commands(found, sources)
        return
    errors = Console(stderr=True)

    def report(line: str) -> None:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)

    plan = make_plan(found, sources, keep, age, report)
    outcomes = []
    if not as_json:
        show(console, plan)
    if delete and plan.going and (yes or _confirmed(len(plan.going))):
        outcomes = delete_plan(found, sources, keep, age, plan, report)
        if not as_json:
            show_outcomes(console, outcomes)
    elif plan.going and not delete and not as_json:
        console.print("nothing was deleted; the same command with --delete deletes it", highlight=False)
    if as_json:
        print(json.dumps(json_of(plan, outcomes), indent=1))


def parse_duration(text: str) -> timedelta:
    """A time such as 30d.

    Raises:
        RecipeError: it is none.
    """
    found = _DURATION.match(text)
    if found is None or len(found[1]) > 5:
        raise RecipeError(f"--older-than {text}: not a time; give a number with w, d, h or m, such as 30d or 12h")
    return timedelta(**{_LENGTHS[found[2]]: int(found[1])})


def _places(addresses: list[str], context: str | None, namespace: str | None) -> list[Place]:
    from pipelines.garbage.places import kubectl_of, places_at
    from pipelines.garbage.volume_job import VolumeJob
    from pipelines.graph.images import load_settings, reference

    def job_of(claim: str, folder: str) -> VolumeJob:
        return VolumeJob(kubectl_of(context, namespace), claim, folder, reference("data", load_settings()))

    found = [place for address in addresses for place in places_at(address, job_of)]
    return list({place.address: place for place in found}.values())


def _sources(
    places: list[Place],
    overlays: list[Path],
    context: str | None,
    namespace: str | None,
    endpoint: str | None,
    *,
    no_cluster: bool,
) -> Sources:
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.garbage.knowledge import Sources, has_kubeconfig
    from pipelines.garbage.pins import pins_of_overlays
    from pipelines.garbage.places import kubectl_of

    pins_of_overlays(overlays)  # one that cannot be read is an error before anything is listed
    is_asked = not no_cluster and any(place.is_shared for place in places) and (context or has_kubeconfig())
    return Sources(
        overlays=overlays,
        kubectl=kubectl_of(context, namespace) if is_asked else None,
        is_chosen=context is not None,
        kubeflow=Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace) if endpoint else None,
    )


def _print_commands(places: list[Place], sources: Sources) -> None:
    from pipelines.garbage.places import VolumePlace

    lines = []
    if sources.kubectl is not None:
        lines.append(sources.kubectl.command("get", "deployments.apps,replicasets.apps", "--all-namespaces"))
        if sources.kubeflow is None:
            lines.append(sources.kubectl.command("get", "workflows.argoproj.io"))
    for place in places:
        if isinstance(place, VolumePlace):
            lines += place.job.commands([])
    if not lines:
        lines.append("# no kubectl command: no place is a volume, and no cluster is asked")
    for line in lines:
        print(line)


def _confirmed(n: int) -> bool:
    """Whether the user says yes.

    Raises:
        RecipeError: nobody can answer.
    """
    from pipelines.garbage.table import parts

    try:
        return typer.confirm(f"delete {parts(n)}?")
    except typer.Abort:
        raise RecipeError("--delete: nobody answered the question, nothing was deleted; give --yes") from None
