"""``lorry doctor``: what a cluster lacks for runs and for serving."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands.options import KubeContext, Namespace, PoolName
from pipelines.config.recipe import load_recipe

console = Console()


OverlayFolder = Annotated[
    Path | None,
    typer.Option(
        "--overlay", help="the overlay to serve, such as manifests/overlays/local; its pipelines/ is for runs"
    ),
]
Recipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="the recipe to run: its pools, claims and store; default: Lorry's own pools"),
]
MaybeEndpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        envvar="KFP_ENDPOINT",
        help="address of Kubeflow Pipelines; without it its version is read through Kubernetes, and no login tried",
    ),
]
Probe = Annotated[
    bool,
    typer.Option(
        "--probe",
        help="also start short-lived pods in the namespaces: they pull each image, reach store and hub, write to "
        "the claims, read the features of processors, and try a NetworkPolicy; without it nothing is made",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="a list of objects in place of the table")]


def doctor(
    overlay: OverlayFolder = None,
    recipe: Recipe = None,
    pool: PoolName = None,
    context: KubeContext = None,
    endpoint: MaybeEndpoint = None,
    namespace: Namespace = None,
    probe: Probe = False,
    as_json: AsJson = False,
) -> None:
    """Check what a cluster has and lacks for runs and for serving, with the command that corrects each row.

    Exit status 1 when something is missing.
    """
    from pipelines.cluster.doctor.examination import examine_cluster
    from pipelines.cluster.doctor.table import as_json as rows_as_json
    from pipelines.cluster.doctor.table import show

    def report(line: str) -> None:
        # Standard output is for the table alone.
        typer.echo(line, err=True)

    rows = examine_cluster(
        context,
        overlay,
        load_recipe(recipe) if recipe else None,
        pool,
        namespace,
        (endpoint, os.environ.get("KFP_TOKEN")),
        probe=probe,
        report=report,
    )
    if as_json:
        typer.echo(rows_as_json(rows))
    else:
        show(console, rows)
    if any(row.state == "missing" for row in rows):
        raise typer.Exit(1)
