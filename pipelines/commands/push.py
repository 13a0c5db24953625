"""``lorry push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands.options import DEFAULT_WORKDIR, WorkdirPath

console = Console()


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
