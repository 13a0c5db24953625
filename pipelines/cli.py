"""The ``lorry`` command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from components.chat.command import chat
from components.command_line import run_app
from components.export_gguf.room import require_room
from components.model_server.command import serve
from pipelines.recipe import RECIPES, load_recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Chat data in, a chat in the browser out: split, train a LoRA adapter, evaluate, export to GGUF, serve.",
)
console = Console()

RecipePath = Annotated[Path, typer.Argument(help="a recipe (YAML); the shipped ones lie in pipelines/recipes")]
WorkdirPath = Annotated[
    Path, typer.Option("--workdir", envvar="LORRY_WORKDIR", help="folder for everything that runs make")
]
DEFAULT_WORKDIR = Path(".lorry")


@app.command()
def check(recipe: RecipePath) -> None:
    """Say in plain words what is wrong with a recipe; nothing runs, nothing is fetched."""
    loaded = load_recipe(recipe)
    console.print(f"{recipe}: fine; run it with: lorry run {recipe}", markup=False, highlight=False, soft_wrap=True)
    for address in (loaded.split.data, loaded.base_model):
        if not address.startswith("/") and "://" not in address:
            console.print(f"  not looked up: {address} (a hub id)", markup=False, highlight=False)


@app.command()
def run(recipe: RecipePath, workdir: WorkdirPath = DEFAULT_WORKDIR) -> None:
    """Run a recipe's whole pipeline on this machine; what has not changed since an earlier run is reused."""
    _run(recipe, workdir)


@app.command(name="compile")
def compile_document(
    output: Annotated[Path, typer.Option("--output", "-o", help="where to write the pipeline document")] = Path(
        "finetune.yaml"
    ),
) -> None:
    """Write the compiled pipeline document: the one that `lorry run` runs here and a KFP endpoint takes."""
    from pipelines.finetune import compile_finetune

    compile_finetune(output)
    console.print(f"written: {output}", markup=False, highlight=False)


@app.command()
def demo(
    workdir: WorkdirPath = DEFAULT_WORKDIR,
    serve_after: Annotated[
        bool, typer.Option("--serve/--no-serve", help="serve the model and the chat page when the run is done")
    ] = True,
    host: Annotated[
        str, typer.Option(envvar="LORRY_HOST", help="address that server and page listen on")
    ] = "127.0.0.1",
    server_port: Annotated[
        int, typer.Option(envvar="LORRY_SERVER_PORT", min=1, max=65535, help="port of the model server")
    ] = 8080,
    chat_port: Annotated[
        int, typer.Option(envvar="LORRY_CHAT_PORT", min=1, max=65535, help="port of the chat page")
    ] = 7860,
) -> None:
    """Everything offline: make a small base model, run the demo recipe, serve the result behind the chat page."""
    from pipelines.demo import serve_until_stopped

    if serve_after:
        from components.listening import require_free_port

        # Asked first: minutes of training should not end in a port that is taken.
        require_free_port(host, server_port, "--server-port")
        require_free_port(host, chat_port, "--chat-port")
    model = _run(RECIPES / "demo.yaml", workdir)
    if serve_after:
        serve_until_stopped(console, model, host, server_port, chat_port)


app.command()(serve)
app.command()(chat)


def _run(recipe_path: Path, workdir_path: Path) -> Path:
    """Run a recipe and show the figures; give the path of the exported model."""
    from pipelines import summary
    from pipelines.local_run import Workdir, run_pipeline
    from pipelines.progress import Progress
    from pipelines.resolve import resolve

    recipe = load_recipe(recipe_path)
    workdir = Workdir(workdir_path.absolute())
    with Progress(console) as progress:
        progress.started("resolve")
        resolved = resolve(recipe, workdir.root, lambda line: progress.line("resolve", line))
        require_room(workdir.root, resolved.base_model.weight_bytes)
        progress.finished("resolve")
        result = run_pipeline(resolved, workdir, progress)
    summary.show(console, result, progress.minutes)
    return result.model


def main() -> NoReturn:
    """Run the command line."""
    # Hub look-ups happen beside a live display, which their own bars would tear.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    run_app(app)


if __name__ == "__main__":
    main()
