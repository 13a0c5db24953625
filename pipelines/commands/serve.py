"""``lorry serve``: the model server, by default with the model of the last run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.errors import ModelError
from components.model_server.command import run_server
from components.model_server.options import ServeOptions
from components.runtime.command_line import with_options
from pipelines.commands.options import DEFAULT_WORKDIR
from pipelines.local.workdir import Workdir


@with_options(ServeOptions)
def serve(
    *,
    model: Annotated[
        Path | None,
        typer.Argument(
            envvar="LORRY_MODEL",
            help="GGUF file, or a folder with model.json; default: the model of the last run in --workdir",
        ),
    ] = None,
    workdir: Annotated[
        Path, typer.Option("--workdir", envvar="LORRY_WORKDIR", help="folder in which runs left their models")
    ] = DEFAULT_WORKDIR,
    options: ServeOptions,
) -> None:
    """Serve a GGUF model over OpenAI's API: /v1/chat/completions, /v1/completions, /v1/models; probes and metrics."""
    run_server(model or last_model(workdir), options)


def last_model(workdir: Path) -> Path:
    """The GGUF file of the run that finished last.

    Raises:
        ModelError: no run has finished, or its model has been deleted.
    """
    result = Workdir(workdir).latest_result()
    if result is None:
        raise ModelError(f"{workdir}: no run has made a model there; name a GGUF file, or run: lorry demo")
    if not result.model.is_file():
        raise ModelError(f"{result.model}: the model of the last run is gone; name a GGUF file, or run it again")
    return result.model
