"""Starting the model server: ``python -m components.model_server MODEL``; ``lorry serve`` starts it the same way."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.errors import ModelError
from components.gguf.kernels import SPIN_COUNT, SPIN_VARIABLE, require_token
from components.model_server.options import ServeOptions
from components.runtime.command_line import with_options
from components.runtime.sockets import listen, url_of

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from components.gguf.model import GgufModel
    from components.model_server.engine.batching import EngineSettings
    from components.model_server.http.api_keys import ApiKeys
    from components.model_server.http.served_model import ServedModel

log = logging.getLogger(__name__)

# Longer than clients and load balancers keep an idle connection (600 s is the longest that is usual): if the server
# closed it first, it would cut off a request that is just on its way.
KEEP_ALIVE_SECONDS = 620


@with_options(ServeOptions)
def serve(
    model: Annotated[Path, typer.Argument(envvar="LORRY_MODEL", help="GGUF file, or a folder with model.json")],
    options: ServeOptions,
) -> None:
    """Serve a GGUF model over OpenAI's API: /v1/chat/completions, /v1/completions, /v1/models; probes and metrics."""
    run_server(model, options)


def run_server(model: Path, options: ServeOptions) -> None:
    """Serve a GGUF file, or that of a folder with ``model.json``, until a signal ends the process.

    Raises:
        LorryError: an option is not valid, the port is taken, or the model cannot be loaded.
    """
    # Loading takes a while, and process 1 ignores signals without a handler; later the server sets its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ.setdefault(SPIN_VARIABLE, SPIN_COUNT)

    from components.gguf.file import model_in
    from components.gguf.model import GgufModel
    from components.model_server.engine.batching import BatchingEngine
    from components.model_server.engine.metrics import Metrics
    from components.model_server.http.access_log import nonblocking_log
    from components.model_server.http.api import create_app
    from components.model_server.http.api_keys import ApiKeys
    from components.model_server.http.served_model import ServedModel
    from components.model_server.http.server import DrainingServer

    path = model_in(model) if model.is_dir() else model
    if options.model_sha256:
        require_digest(path, options.model_sha256)
    keys = ApiKeys.from_file(options.api_keys_file) if options.api_keys_file else ApiKeys({})
    template = read_template(options.chat_template) if options.chat_template else None
    cors_origins = options.cors_origins
    with listen(options.host, options.port, "--port") as bound:
        require_token(path)
        loaded = GgufModel(
            path, n_ctx=options.n_ctx, n_threads=options.n_threads, n_parallel=options.n_parallel, template=template
        )
        metrics = Metrics()
        served = ServedModel.from_model(loaded, options.model_id)
        metrics.set_model_name(served.name)
        engine = BatchingEngine(loaded, engine_settings(options, len(keys)), metrics)
        _log_start(path, loaded, served, keys, options)
        app = create_app(engine, keys, metrics, served, cors_origins=cors_origins)
        with nonblocking_log():
            DrainingServer(uvicorn_config(app), engine, options.drain_seconds).run(sockets=[bound])


def require_digest(path: Path, sha256: str) -> None:
    """Check that a model's file is the one of this digest: an image of a registry may hold any.

    Of a file with ``model.json`` it reads the digest there; loading the model compares the file with it.

    Raises:
        ModelError: it is another file, or missing.
    """
    from components.gguf.file import read_manifest
    from components.storage.digests import sha256_of

    if not path.is_file():
        raise ModelError(f"{path}: no such model file; give the path of a .gguf file")
    manifest = read_manifest(path)
    found = manifest.sha256 if manifest else sha256_of(path)
    if found != sha256:
        raise ModelError(f"{path}: its sha256 is {found}, not {sha256} as pinned; push and pin the model again")


def engine_settings(options: ServeOptions, n_keys: int) -> EngineSettings:
    """The engine's part of the options."""
    from components.model_server.engine.batching import EngineSettings

    return EngineSettings(
        max_waiting=options.max_waiting,
        max_seconds=options.max_seconds,
        itl_seconds=options.itl_seconds,
        prefix_cache_bytes=options.prefix_cache_mb << 20,
        n_keys=n_keys,
    )


def uvicorn_config(app: FastAPI) -> uvicorn.Config:
    """How uvicorn serves the application."""
    import uvicorn

    # No log_config: uvicorn's own handlers would write on the thread that serves all sockets.
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        # What the image has, even where a faster event loop or parser is installed.
        loop="asyncio",
        http="h11",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


def _log_start(path: Path, loaded: GgufModel, served: ServedModel, keys: ApiKeys, options: ServeOptions) -> None:
    url, n_threads = url_of(options.host, options.port), loaded.context.n_threads
    log.info(
        "serving %s as %r (%d slots of %d tokens, %d threads) on %s/v1",
        path, served.name, options.n_parallel, loaded.n_ctx, n_threads, url,
    )  # fmt: skip
    if defaults := served.default_generation_settings:
        log.info("defaults of requests: %s", ", ".join(f"{name} {value}" for name, value in defaults.items()))
    log.info("%s", f"API keys: {len(keys)}" if len(keys) else "no API keys are configured: every request is accepted")
    if not loaded.template:
        log.warning("the file has no chat template: only /v1/completions works; name a template with --chat-template")


def read_template(path: Path) -> str:
    """The text of a chat template, which is checked on a short conversation.

    Raises:
        ModelError: it cannot be read, or does not render a conversation.
    """
    from components.modeling.chat_template import PROBE, PROBED, render

    try:
        template = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: the chat template cannot be read ({error}); give a file in Jinja") from error
    try:
        text = render(template, PROBED, add_generation_prompt=True)
    except ModelError as error:
        line = getattr(error.__cause__, "lineno", None)
        where = "" if line is None else f", line {line}"
        raise ModelError(f"{path}{where}: the chat template fails ({error.__cause__}); correct it") from error
    if PROBE not in text:
        raise ModelError(f"{path}: the chat template writes nothing of the messages; give one that does")
    return template
