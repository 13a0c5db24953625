"""Starting the model server: ``lorry serve`` and ``python -m components.model_server``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from components.errors import ModelError
from components.listening import listen, url_of

log = logging.getLogger(__name__)


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
        int, typer.Option(envvar="LORRY_N_CTX", min=0, help="context, tokens, at most as trained; 0 = as trained")
    ] = 8192,
    n_threads: Annotated[int, typer.Option(envvar="LORRY_N_THREADS", min=0, help="threads; 0 = every usable core")] = 0,
    model_id: Annotated[
        str | None, typer.Option(envvar="LORRY_MODEL_ID", help="the model's name on the wire; default: the file's name")
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(envvar="LORRY_MAX_WAITING", min=1, help="requests that may wait; more get a 429")
    ] = 64,
) -> None:
    """Serve a GGUF model over OpenAI's chat API (/v1/models, /v1/chat/completions, /livez, /readyz)."""
    import uvicorn

    from components.gguf_model import GgufModel, model_in
    from components.model_server.api import create_app, stopping_server
    from components.model_server.engine import SerialEngine

    path = model or _last_model(workdir)
    if path.is_dir():
        path = model_in(path)
    with listen(host, port, "--port") as bound:
        loaded = GgufModel(path, n_ctx=n_ctx, n_threads=n_threads)
        engine = SerialEngine(loaded, model_id or path.stem, max_waiting)
        url = url_of(host, port)
        log.info("serving %s as %r (context %d tokens) on %s/v1", path, engine.model_id, loaded.n_ctx, url)
        config = uvicorn.Config(create_app(engine), log_level="warning", timeout_graceful_shutdown=5)
        stopping_server(config, engine).run(sockets=[bound])


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
