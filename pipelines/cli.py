"""The ``lorry`` command."""

from __future__ import annotations

import os
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from components.chat.command import chat
from components.chat.feedback import feedback
from components.runtime.command_line import run_app
from pipelines.commands.cluster import compile_document, submit
from pipelines.commands.deploy import deploy, pin, rollback, status
from pipelines.commands.doctor import doctor
from pipelines.commands.estimate import estimate, report_estimate
from pipelines.commands.gc import gc
from pipelines.commands.no_reuse import CommandWithNoReuse, NoReuse, steps_without_reuse
from pipelines.commands.options import DEFAULT_WORKDIR, RecipePath, WorkdirPath
from pipelines.commands.publish import publish
from pipelines.commands.push import push
from pipelines.commands.report import report
from pipelines.commands.runs import runs
from pipelines.commands.schedule import schedule, schedules
from pipelines.commands.serve import serve
from pipelines.commands.sweep import sweep
from pipelines.config.addresses import claims_in
from pipelines.config.recipe import RECIPES, load_recipe
from pipelines.config.steps import RUN_STEPS, names_of
from pipelines.config.sweep import is_sweep, load_sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Chat data in, a chat in the browser out: split, train a LoRA adapter, evaluate, export to GGUF, serve.",
)
console = Console()


@app.command()
def check(recipe: RecipePath, workdir: WorkdirPath = DEFAULT_WORKDIR) -> None:
    """Check a recipe or a sweep and list what is wrong with it; no step runs, nothing is fetched.

    A line says what a run on this machine would take, by the earlier runs of the work folder where there are any.
    """
    from pipelines.preflight.split_check import check_recipes

    def report(line: str) -> None:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    if is_sweep(recipe):
        sweep_document = load_sweep(recipe)
        check_recipes(sweep_document.recipes.values(), report)
        report_estimate(sweep_document, None, workdir.absolute(), report)
        n = len(sweep_document.recipes)
        console.print(f"{recipe}: fine, {n} trials; run it with: lorry sweep {recipe}", markup=False, highlight=False)
        return
    loaded = load_recipe(recipe)
    check_recipes([loaded], report)
    report_estimate(loaded, None, workdir.absolute(), report)
    verb = "submit" if claims_in(loaded.addresses.values()) else "run"
    console.print(f"{recipe}: fine; run it with: lorry {verb} {recipe}", markup=False, highlight=False, soft_wrap=True)
    data = (source.data for source in loaded.split.all_sources)
    for address in (*data, loaded.base_model):
        if not address.startswith("/") and "://" not in address:
            console.print(f"  not checked: {address} (a hub id)", markup=False, highlight=False)


@app.command(cls=CommandWithNoReuse)
def run(recipe: RecipePath, no_reuse: NoReuse = None, workdir: WorkdirPath = DEFAULT_WORKDIR) -> None:
    """Run a recipe's whole pipeline on this machine; what has not changed since an earlier run is reused."""
    from pipelines.local.run_recipe import run_recipe
    from pipelines.local.workdir import Workdir

    run_recipe(console, recipe, Workdir(workdir.absolute()), steps_without_reuse(no_reuse, names_of(RUN_STEPS)))


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
    """Fine-tune a small real model on the demo's chat data (no hub, no account), serve it behind the chat page."""
    from pipelines.local.demo import serve_until_stopped
    from pipelines.local.run_recipe import run_recipe
    from pipelines.local.workdir import Workdir

    if serve_after:
        from components.runtime.sockets import require_free_port

        # Asked first: minutes of training should not end in a port that is taken.
        require_free_port(host, server_port, "--server-port")
        require_free_port(host, chat_port, "--chat-port")
    model = run_recipe(console, RECIPES / "demo.yaml", Workdir(workdir.absolute()))
    if serve_after:
        serve_until_stopped(console, model, workdir.absolute(), host, server_port, chat_port)


app.command()(estimate)
app.command(cls=CommandWithNoReuse)(sweep)
app.command(name="compile", cls=CommandWithNoReuse)(compile_document)
app.command(cls=CommandWithNoReuse)(submit)
app.add_typer(runs, name="runs")
app.command(cls=CommandWithNoReuse)(schedule)
app.add_typer(schedules, name="schedules")
app.command()(pin)
app.command()(deploy)
app.command()(status)
app.command()(rollback)
app.command()(doctor)
app.command()(report)
app.command()(push)
app.command()(gc)
app.command()(publish)
app.command()(serve)
app.command()(chat)
app.command()(feedback)


def main() -> NoReturn:
    """Run the command line."""
    # Hub look-ups happen beside a live display, which their own bars would tear.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    run_app(app)


if __name__ == "__main__":
    main()
