"""The commands for serving on a cluster: ``lorry pin``, ``deploy``, ``status`` and ``rollback``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from components.errors import ClusterError
from components.runtime.interrupts import interrupt_on_sigterm
from pipelines.commands.options import KubeContext

if TYPE_CHECKING:
    from pipelines.cluster.deploy.status import WorkloadStatus

console = Console()
# Room for the names of images; a narrower terminal breaks the lines itself.
TABLE_WIDTH = 100

OverlayPath = Annotated[
    Path, typer.Argument(metavar="OVERLAY", help="folder of a kustomize overlay, such as manifests/overlays/local")
]
ModelDigest = Annotated[
    str | None,
    typer.Option(
        help="sha256 of a published model, or with --store its first digits; default: the store's newest, or without a "
        "store what is pinned"
    ),
]
ModelStore = Annotated[
    str | None,
    typer.Option(envvar="LORRY_STORE", help="the store with the models: s3://bucket/folder, gs://… or a folder"),
]
Server = Annotated[str, typer.Option(help="which Deployment, where an overlay has several model servers")]
TimeoutSeconds = Annotated[
    float, typer.Option("--timeout", min=1, help="seconds for a roll-out before it is taken back")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the commands, change nothing")]


def pin(
    overlay: OverlayPath,
    model: ModelDigest = None,
    store: ModelStore = None,
    server: Server = "model-server",
    oci: Annotated[
        str | None,
        typer.Option(help="registry/repository that has the model as an image; for the component model-image-volume"),
    ] = None,
) -> None:
    """Write into an overlay which images and which model it serves; `kubectl apply -k` then does it."""
    from pipelines.cluster.deploy.pin import pin_overlay

    for line in pin_overlay(overlay, model, store, server, oci):
        _say(line)


def deploy(
    overlay: OverlayPath,
    model: ModelDigest = None,
    store: ModelStore = None,
    server: Server = "model-server",
    context: KubeContext = None,
    timeout: TimeoutSeconds = 600,
    dry_run: DryRun = False,
) -> None:
    """Serve a model on a cluster: pin it, show the difference, apply, follow the roll-out, and compare the server's
    answer with the one in the model's manifest; what does not serve well is taken back."""
    from pipelines.cluster.deploy.commands import deploy_commands
    from pipelines.cluster.deploy.deploy import Wanted
    from pipelines.cluster.deploy.deploy import deploy as roll_out
    from pipelines.cluster.kubectl import Kubectl

    wanted, kubectl = Wanted(overlay, model, store, server), Kubectl(context)
    if dry_run:
        for command in deploy_commands(wanted, kubectl, timeout):
            _say(command)
        return
    with interrupt_on_sigterm():
        deployed = roll_out(wanted, kubectl, timeout, _say)
    for name, answer in deployed.answers.items():
        speed = f", {answer.tokens_per_second:.0f} tokens/s" if answer and answer.tokens_per_second else ""
        _say(f"serves: {name} in namespace {deployed.namespace}{f': {answer.name}' if answer else ''}{speed}")
    page = kubectl.in_namespace(deployed.namespace).command("port-forward", "service/chat", "7860:80")
    _say(f"the page: {page}  # then http://127.0.0.1:7860")


def rollback(
    overlay: OverlayPath,
    server: Annotated[str, typer.Option(help="which Deployment: a model server, or chat")] = "model-server",
    to_revision: Annotated[int | None, typer.Option(help="default: the one before")] = None,
    context: KubeContext = None,
    timeout: TimeoutSeconds = 600,
    dry_run: DryRun = False,
) -> None:
    """Bring back what a Deployment served before, on the cluster and in the overlay."""
    from pipelines.cluster.deploy.commands import rollback_commands
    from pipelines.cluster.deploy.rollback import rollback as roll_back
    from pipelines.cluster.kubectl import Kubectl

    if dry_run:
        for command in rollback_commands(overlay, server, to_revision, Kubectl(context)):
            _say(command)
        return
    with interrupt_on_sigterm():
        roll_back(overlay, server, to_revision, Kubectl(context), timeout, _say)


def status(
    overlay: OverlayPath,
    context: KubeContext = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="ask each model server for its proof answer")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """What an overlay pins, what runs of it, and what answers; the exit status is 1 if something
    is not as pinned or does not answer as its model's proof."""
    from pipelines.cluster.deploy.status import status_of
    from pipelines.cluster.kubectl import Kubectl

    rows = status_of(overlay, Kubectl(context), ask=ask)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _show(rows)
    if wrong := [row.name for row in rows if row.problem]:
        raise ClusterError(f"{overlay}: not as it should be: {', '.join(wrong)}")


def _show(rows: list[WorkloadStatus]) -> None:
    table = Table("Deployment", "pinned", "runs", "ready", "restarts", "answers", "tokens/s", box=box.SIMPLE)
    for row in rows:
        served = "as pinned" if list(row.running) == [row.pinned] else ", ".join(map(_short, row.running)) or "nothing"
        ready = f"{sum(row.running.values())} of {row.wanted}"
        speed = f"{row.tokens_per_second:.0f}" if row.tokens_per_second else ""
        table.add_row(
            row.name, _short(row.pinned), served, ready, str(row.restarts), row.answers.partition(":")[0], speed
        )
    Console(width=max(console.width, TABLE_WIDTH)).print(table)
    for row in rows:
        if row.problem:
            _say(f"{row.name}: {row.problem}")


def _short(served: str) -> str:
    """A digest's first 12 digits; an image's name and tag."""
    return served[:12] if len(served) == 64 else served.rpartition("/")[2]


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
