"""``lorry gc``: list what can go from stores, checkpoints, work folders and volumes, and delete it when asked to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.errors import RecipeError
from pipelines.commands.options import DEFAULT_WORKDIR, Namespace

if TYPE_CHECKING:
    from pipelines.cluster.kubectl import Kubectl
    from pipelines.garbage.collect import Plan
    from pipelines.garbage.knowledge import Sources
    from pipelines.garbage.places import Place

console = Console()
errors = Console(stderr=True)
_LENGTHS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}
_DURATION = re.compile(r"^(\d+)([wdhm])$")

Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PLACE",
        help="s3://bucket/folder, gs://bucket/folder, a folder (a work folder, a store or a checkpoint root), or "
        "pvc://claim/folder; default: the work folder. Several given together know of each other's parts",
    ),
]
Keep = Annotated[int, typer.Option(min=0, help="how many of the newest models, runs and checkpoints stay")]
OlderThan = Annotated[str, typer.Option(help="what is younger stays: a number with w, d, h or m, such as 30d or 12h")]
Overlays = Annotated[
    list[Path] | None, typer.Option("--overlay", help="an overlay whose pinned models stay; repeat it for each")
]
Contexts = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        help="a context of your kubeconfig (default: the current one): the models that its Deployments and ReplicaSets "
        "name stay, and what its active runs may read; repeat it for each cluster that uses the store. A claim is the "
        "first one's",
    ),
]
NoCluster = Annotated[
    bool, typer.Option("--no-cluster", help="ask no cluster; what it serves is then known by --overlay alone")
]
OptionalEndpoint = Annotated[
    str | None,
    typer.Option(envvar="KFP_ENDPOINT", help="Kubeflow Pipelines: what its active runs and its schedules use stays"),
]
Delete = Annotated[bool, typer.Option("--delete", help="delete what the list shows, after a question")]
Yes = Annotated[bool, typer.Option("--yes", help="with --delete: do not ask")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print the kubectl commands that a listing would run, and run none")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, with every part that stays")]
Workdir = Annotated[
    Path, typer.Option("--workdir", envvar="LORRY_WORKDIR", help="the work folder, where no place is given")
]


def gc(
    places: Places = None,
    keep: Keep = 5,
    older_than: OlderThan = "30d",
    overlays: Overlays = None,
    contexts: Contexts = None,
    no_cluster: NoCluster = False,
    namespace: Namespace = None,
    endpoint: OptionalEndpoint = None,
    delete: Delete = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    workdir: Workdir = DEFAULT_WORKDIR,
) -> None:
    """List what can go: models, runs, inputs, checkpoints, step outputs; --delete deletes it.

    What stays: the store's current model, those that an overlay or a cluster names, the newest of each kind, what is
    young, what a run is writing or reading now, and what any of these needs. Nothing that is not Lorry's is touched.
    """
    from pipelines.garbage.collect import make_plan

    age = parse_duration(older_than)
    if delete and as_json and not yes:
        raise RecipeError("--delete --json: asks no question; give --yes as well")
    clusters = _clusters(contexts, namespace)
    found = _places(places or [str(workdir)], clusters[0])
    sources = _sources(found, overlays or [], [] if no_cluster else clusters, contexts, endpoint, namespace)
    if dry_run:
        _print_commands(found, sources)
        return
    plan = make_plan(found, sources, keep, age, _report)
    _show_and_delete(plan, found, sources, keep, age, is_deleting=delete, asks=not yes, as_json=as_json)


def _show_and_delete(
    plan: Plan,
    places: list[Place],
    sources: Sources,
    keep: int,
    age: timedelta,
    *,
    is_deleting: bool,
    asks: bool,
    as_json: bool,
) -> None:
    from pipelines.garbage import table
    from pipelines.garbage.collect import delete

    if not as_json:
        table.show(console, plan)
    is_agreed = bool(plan.going) and is_deleting and (not asks or _confirmed(len(plan.going)))
    outcomes = delete(places, sources, keep, age, plan, _report) if is_agreed else []
    if as_json:
        print(json.dumps(table.as_json(plan, outcomes), indent=1))
    elif is_agreed:
        table.show_outcomes(console, outcomes)
    elif plan.going and not is_deleting:
        console.print("nothing was deleted; the same command with --delete deletes it", highlight=False)


def parse_duration(text: str) -> timedelta:
    """A time such as 30d.

    Raises:
        RecipeError: it is none.
    """
    found = _DURATION.match(text)
    if found is None or len(found[1]) > 5:
        raise RecipeError(f"--older-than {text}: not a time; give a number with w, d, h or m, such as 30d or 12h")
    return timedelta(**{_LENGTHS[found[2]]: int(found[1])})


def _report(line: str) -> None:
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


def _clusters(contexts: Sequence[str] | None, namespace: str | None) -> list[Kubectl]:
    from pipelines.cluster.kubectl import Kubectl

    chosen: Sequence[str | None] = contexts or [None]
    return [Kubectl(context, namespace or "kubeflow") for context in chosen]


def _places(addresses: list[str], cluster: Kubectl) -> list[Place]:
    from pipelines.garbage.places import places_at
    from pipelines.garbage.volume_job import VolumeJob
    from pipelines.graph.images import load_settings, reference

    def job_of(claim: str, folder: str) -> VolumeJob:
        return VolumeJob(cluster, claim, folder, reference("data", load_settings()))

    found = [place for address in addresses for place in places_at(address, job_of)]
    return list({place.address: place for place in found}.values())


def _sources(
    places: list[Place],
    overlays: list[Path],
    clusters: list[Kubectl],
    contexts: Sequence[str] | None,
    endpoint: str | None,
    namespace: str | None,
) -> Sources:
    """Where is asked what stays; a work folder is no cluster's."""
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.garbage.knowledge import Sources, has_kubeconfig
    from pipelines.garbage.pins import pins_of_overlays

    pins_of_overlays(overlays)  # one that cannot be read is an error before anything is listed
    is_asked = bool(clusters) and any(place.is_shared for place in places) and bool(contexts or has_kubeconfig())
    return Sources(
        overlays=overlays,
        clusters=clusters if is_asked else [],
        is_chosen=bool(contexts),
        kubeflow=Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace) if endpoint else None,
    )


def _print_commands(places: list[Place], sources: Sources) -> None:
    from pipelines.garbage.pins import WORKLOADS
    from pipelines.garbage.places import VolumePlace

    lines = []
    for cluster in sources.clusters:
        lines.append(cluster.command("get", WORKLOADS, "--all-namespaces"))
        if sources.kubeflow is None or sources.is_chosen:
            lines.append(cluster.command("get", "workflows.argoproj.io"))
    for place in places:
        if isinstance(place, VolumePlace):
            lines += place.job.commands([])
    for line in lines or ["# no kubectl command: no place is a volume, and no cluster is asked"]:
        print(line)


def _confirmed(n: int) -> bool:
    """Whether the user says yes.

    Raises:
        RecipeError: nobody can answer.
    """
    from components.collect_garbage.plan import parts

    try:
        return typer.confirm(f"delete {parts(n)}?")
    except typer.Abort:
        raise RecipeError("--delete: nobody answered the question, nothing was deleted; give --yes") from None
