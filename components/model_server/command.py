"""Starting the model server: ``lorry serve`` and ``python -m components.model_server``."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from components.errors import LorryError, ModelError
from components.gguf.kernels import SPIN_COUNT, SPIN_VARIABLE, require_token
from components.runtime.sockets import listen, url_of

log = logging.getLogger(__name__)

# Longer than clients and load balancers keep a connection that nobody uses (600 s is the longest that is usual): were
# the server to close first, it would cut a request that is just on its way.
KEEP_ALIVE_SECONDS = 620


def serve(
    model: Annotated[
        Path | None,
        typer.Argument(
            envvar="LORRY_MODEL",
            help="GGUF file, or a folder with model.json; without it, that of the last run in --workdir",
        ),
    ] = None,
    workdir: Annotated[
        Path, typer.Option("--workdir", envvar="LORRY_WORKDIR", help="folder where runs left what they made")
    ] = Path(".lorry"),
    host: Annotated[str, typer.Option(envvar="LORRY_SERVER_HOST", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="LORRY_SERVER_PORT", min=1, max=65535, help="port to listen on")] = 8080,
    n_ctx: Annotated[
        int,
        typer.Option(
            envvar="LORRY_N_CTX", min=0, help="context of one conversation, tokens, at most as trained; 0 = as trained"
        ),
    ] = 8192,
    n_parallel: Annotated[
        int,
        typer.Option(
            "--parallel",
            envvar="LORRY_PARALLEL",
            min=1,
            max=256,
            help="slots: conversations answered at once; each takes the memory of a context",
        ),
    ] = 8,
    n_threads: Annotated[
        int, typer.Option(envvar="LORRY_N_THREADS", min=0, help="threads; 0 = the cores that the CPU quota allows")
    ] = 0,
    itl_seconds: Annotated[
        float,
        typer.Option(
            envvar="LORRY_ITL_SECONDS", min=0.01, help="inter-token latency that the prompts of others may cause"
        ),
    ] = 0.4,
    prefix_cache_mb: Annotated[
        int,
        typer.Option(envvar="LORRY_PREFIX_CACHE_MB", min=0, help="memory for conversations that left their slot, MB"),
    ] = 512,
    model_id: Annotated[
        str | None,
        typer.Option(envvar="LORRY_MODEL_ID", help="the model's name on the wire; default: as its recipe calls it"),
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(envvar="LORRY_MAX_WAITING", min=1, help="requests that may wait; more get a 429")
    ] = 64,
    max_seconds: Annotated[
        float, typer.Option(envvar="LORRY_MAX_SECONDS", min=1, help="a request that takes longer is ended")
    ] = 600.0,
    drain_seconds: Annotated[
        float, typer.Option(envvar="LORRY_DRAIN_SECONDS", min=0, help="after SIGTERM, time for what runs to finish")
    ] = 40.0,
    api_keys_file: Annotated[
        Path | None,
        typer.Option(envvar="LORRY_API_KEYS_FILE", help="file with one API key a line; without it nobody needs a key"),
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            envvar="LORRY_CHAT_TEMPLATE", help="file with a Jinja chat template in the place of the model's own"
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="LORRY_CORS_ORIGIN",
            help="origin whose pages may ask from a browser, such as http://localhost:5173, or *; may be repeated "
            "(variable: spaces)",
        ),
    ] = None,
) -> None:
    """Serve a GGUF model over OpenAI's API: /v1/chat/completions, /v1/completions, /v1/models; probes and metrics."""
    # Loading takes a while, and a process 1 without a handler would not hear it; later the server has its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ.setdefault(SPIN_VARIABLE, SPIN_COUNT)
    import uvicorn

    from components.gguf.file import model_in
    from components.gguf.model import GgufModel
    from components.model_server.engine.batching import BatchingEngine, EngineSettings
    from components.model_server.engine.metrics import Metrics
    from components.model_server.http.access_log import nonblocking_log
    from components.model_server.http.api import create_app
    from components.model_server.http.api_keys import ApiKeys
    from components.model_server.http.served_model import ServedModel
    from components.model_server.http.server import DrainingServer

    path = model or _last_model(workdir)
    if path.is_dir():
        path = model_in(path)
    keys = ApiKeys.from_file(api_keys_file) if api_keys_file else ApiKeys({})
    template = _template(chat_template) if chat_template else None
    for origin in cors_origin or ():
        _require_origin(origin)
    with listen(host, port, "--port") as bound:
        require_token(path)
        loaded = GgufModel(path, n_ctx=n_ctx, n_threads=n_threads, n_parallel=n_parallel, template=template)
        metrics = Metrics()
        settings = EngineSettings(
            max_waiting=max_waiting,
            max_seconds=max_seconds,
            itl_seconds=itl_seconds,
            prefix_cache_bytes=prefix_cache_mb << 20,
            n_keys=len(keys),
        )
        served = ServedModel.from_model(loaded, model_id)
        metrics.serves(served.name)
        engine = BatchingEngine(loaded, settings, metrics)
        log.info(
            "serving %s as %r (%d slots of %d tokens, %d threads) on %s/v1",
            path, served.name, n_parallel, loaded.n_ctx, loaded.context.n_threads, url_of(host, port),
        )  # fmt: skip
        if defaults := served.default_generation_settings:
            log.info("where a request leaves them out: %s", ", ".join(f"{k} {v}" for k, v in defaults.items()))
        log.info(
            "%s", f"API keys: {len(keys)}" if len(keys) else "no API keys are configured: whoever reaches it may ask"
        )
        if not loaded.template:
            log.warning(
                "the file has no chat template: only /v1/completions is answered; name one with --chat-template"
            )
        # No log_config: uvicorn's own handlers would write on the thread that serves all sockets.
        config = uvicorn.Config(
            create_app(engine, keys, metrics, served, cors_origins=cors_origin or []),
            log_config=None,
            log_level="warning",
            access_log=False,
            # What its image has, wherever else a faster loop or parser is installed.
            loop="asyncio",
            http="h11",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        with nonblocking_log():
            DrainingServer(config, engine, drain_seconds).run(sockets=[bound])


def _template(path: Path) -> str:
    """The text of a chat template.

    Raises:
        ModelError: it cannot be read, or writes no conversation.
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
        raise ModelError(f"{path}{where}: no chat template ({error.__cause__}); correct it") from error
    if PROBE not in text:
        raise ModelError(f"{path}: the chat template writes nothing of the messages; give one that does")
    return template


def _require_origin(origin: str) -> None:
    if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
        raise LorryError(f"--cors-origin {origin}: is no origin; give one as http://localhost:5173, or *")


def _last_model(workdir: Path) -> Path:
    """The model of the run that finished last: its ``result.json`` says where each output lies."""
    results = sorted(workdir.glob("runs/*/result.json"), key=lambda path: path.stat().st_mtime)
    if not results:
        raise ModelError(f"{workdir}: no run has made a model there; name a GGUF file, or run: lorry demo")
    folder = Path(json.loads(results[-1].read_text(encoding="utf-8"))["model"]["path"])
    models = list(folder.glob("*.gguf"))
    if not models:
        raise ModelError(f"{folder}: the model of the last run is gone; name a GGUF file, or run the recipe again")
    return models[0]
