"""The options of the model server: flags, environment variables and defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from components.errors import LorryError


@dataclass(frozen=True)
class ServeOptions:
    """How a model is served; each field is an option of ``lorry serve``, see ``with_options``."""

    host: Annotated[str, typer.Option(envvar="LORRY_SERVER_HOST", help="address to listen on")] = "127.0.0.1"
    port: Annotated[int, typer.Option(envvar="LORRY_SERVER_PORT", min=1, max=65535, help="port to listen on")] = 8080
    n_ctx: Annotated[
        int,
        typer.Option(
            envvar="LORRY_N_CTX", min=0, help="context of one conversation, tokens, at most as trained; 0 = as trained"
        ),
    ] = 8192
    n_parallel: Annotated[
        int,
        typer.Option(
            "--parallel",
            envvar="LORRY_PARALLEL",
            min=1,
            max=256,
            help="slots: conversations answered at once; each takes the memory of a context",
        ),
    ] = 8
    n_threads: Annotated[
        int, typer.Option(envvar="LORRY_N_THREADS", min=0, help="threads; 0 = the cores that the CPU quota allows")
    ] = 0
    itl_seconds: Annotated[
        float,
        typer.Option(
            envvar="LORRY_ITL_SECONDS", min=0.01, help="inter-token latency that the prompts of others may cause"
        ),
    ] = 0.4
    prefix_cache_mb: Annotated[
        int,
        typer.Option(envvar="LORRY_PREFIX_CACHE_MB", min=0, help="memory for conversations that left their slot, MB"),
    ] = 512
    model_id: Annotated[
        str | None,
        typer.Option(envvar="LORRY_MODEL_ID", help="the model's name in the API; default: the name in its recipe"),
    ] = None
    model_sha256: Annotated[
        str | None, typer.Option(envvar="LORRY_MODEL_SHA256", help="the file's digest; another file is not served")
    ] = None
    max_waiting: Annotated[
        int, typer.Option(envvar="LORRY_MAX_WAITING", min=1, help="requests that may wait in the queue; more get a 429")
    ] = 64
    max_seconds: Annotated[
        float, typer.Option(envvar="LORRY_MAX_SECONDS", min=1, help="a request that takes longer is ended")
    ] = 600.0
    drain_seconds: Annotated[
        float,
        typer.Option(envvar="LORRY_DRAIN_SECONDS", min=0, help="time after SIGTERM for running and waiting requests"),
    ] = 40.0
    api_keys_file: Annotated[
        Path | None,
        typer.Option(envvar="LORRY_API_KEYS_FILE", help="file with one API key a line; default: no key is required"),
    ] = None
    chat_template: Annotated[
        Path | None,
        typer.Option(
            envvar="LORRY_CHAT_TEMPLATE", help="file with a Jinja chat template that replaces the model's own"
        ),
    ] = None
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="LORRY_CORS_ORIGIN",
            help="origin whose pages may call the API from a browser, such as http://localhost:5173, or *; may be "
            "repeated (variable: spaces)",
        ),
    ] = None

    @property
    def cors_origins(self) -> list[str]:
        """The origins, each checked.

        Raises:
            LorryError: one of them is no origin.
        """
        for origin in self.cors_origin or ():
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise LorryError(f"--cors-origin {origin}: is no origin; give one as http://localhost:5173, or *")
        return self.cors_origin or []
