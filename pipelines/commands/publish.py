"""``lorry publish``: a model of the store into a container registry."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands.options import DEFAULT_WORKDIR, WorkdirPath

console = Console()


def publish(
    oci: Annotated[str, typer.Option(help="registry/repository, such as ghcr.io/somebody/models")],
    model: Annotated[str | None, typer.Option(help="sha256 of a published model; default: the store's newest")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="LORRY_STORE", help="s3://bucket/folder, gs://… or a folder; default: the one of the work folder"
        ),
    ] = None,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Push a model of the store to a container registry, as an image that pods mount.

    User and password are in LORRY_OCI_USER and LORRY_OCI_PASSWORD. What the registry has already is not sent again.
    `publish.oci` in a recipe does the same at the end of a run.
    """
    from pipelines.local.workdir import Workdir
    from pipelines.publish.image import push_from_store

    def report(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    at = store or str(Workdir(workdir.absolute()).store)
    sha256, image = push_from_store(oci, at, model, workdir.absolute(), report)
    report(f"pushed: {image}")
    report(f"serve it: lorry pin OVERLAY --oci {oci} --model {sha256}")
