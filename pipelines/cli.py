"""The ``lorry`` command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from components.chat.command import chat
from components.chat.feedback import feedback
from components.command_line import run_app
from components.errors import RecipeError
from components.model_server.command import serve
from pipelines.addresses import claims_in
from pipelines.experiments import DEFAULT_WORKDIR, WorkdirPath, push, report, sweep
from pipelines.recipe import RECIPES, load_recipe
from pipelines.sweep_document import is_sweep, load_sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Chat data in, a chat in the browser out: split, train a LoRA adapter, evaluate, export to GGUF, serve.",
)
console = Console()

RecipePath = Annotated[Path, typer.Argument(help="a recipe (YAML); the shipped ones lie in pipelines/recipes")]


@app.command()
def check(recipe: RecipePath) -> None:
    """Say in plain words what is wrong with a recipe or a sweep; nothing runs, nothing is fetched."""
    if is_sweep(recipe):
        n = len(load_sweep(recipe).recipes)
        console.print(f"{recipe}: fine, {n} trials; run it with: lorry sweep {recipe}", markup=False, highlight=False)
        return
    loaded = load_recipe(recipe)
    verb = "submit" if claims_in(loaded.addresses.values()) else "run"
    console.print(f"{recipe}: fine; run it with: lorry {verb} {recipe}", markup=False, highlight=False, soft_wrap=True)
    data = (source.data for source in loaded.split.all_sources)
    for address in (*data, loaded.base_model):
        if not address.startswith("/") and "://" not in address:
            console.print(f"  not looked up: {address} (a hub id)", markup=False, highlight=False)


@app.command()
def run(recipe: RecipePath, workdir: WorkdirPath = DEFAULT_WORKDIR) -> None:
    """Run a recipe's whole pipeline on this machine; what has not changed since an earlier run is reused."""
    from pipelines.run_recipe import run_recipe
    from pipelines.workdir import Workdir

    run_recipe(console, recipe, Workdir(workdir.absolute()))


PoolName = Annotated[
    str | None,
    typer.Option("--pool", help="where training and evaluation run: t4, a100, cpu, or one of the recipe's own"),
]


@app.command(name="compile")
def compile_document(
    recipe: RecipePath,
    pool: PoolName = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="where to write the pipeline document")] = Path(
        "finetune.yaml"
    ),
) -> None:
    """Write the pipeline document that `lorry submit` sends: its steps placed on pools, its images named by content."""
    from pipelines.finetune import compile_finetune

    loaded = load_recipe(recipe)
    if output.suffix != ".yaml" or not output.absolute().parent.is_dir():
        raise RecipeError(f"--output {output}: give the path of a .yaml file in a folder that is there")
    compile_finetune(
        output,
        loaded.placement.on(pool),
        claims_in(loaded.addresses.values()),
        split_with_model=loaded.split.quality.measures_perplexity,
    )
    console.print(f"written: {output}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def submit(
    recipe: RecipePath,
    endpoint: Annotated[
        str, typer.Option(envvar="KFP_ENDPOINT", help="address of Kubeflow Pipelines, such as http://127.0.0.1:8081")
    ],
    namespace: Annotated[
        str | None, typer.Option(envvar="KFP_NAMESPACE", help="your namespace, where Kubeflow serves several users")
    ] = None,
    experiment: Annotated[
        str, typer.Option(envvar="KFP_EXPERIMENT", help="which experiment the run belongs to")
    ] = "lorry",
    pool: PoolName = None,
    store: Annotated[
        str | None,
        typer.Option(envvar="LORRY_STORE", help="in place of the recipe's publish.store: s3://…, gs://… or pvc://…"),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help="a context of your kubeconfig: look first whether the cluster has the recipe's volumes"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="follow the run, and end with its figures")] = False,
    look_seconds: Annotated[float, typer.Option(min=0.01, help="seconds between looks at the run, with --wait")] = 5.0,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Run a recipe's whole pipeline on a cluster (a token, where it needs one: KFP_TOKEN)."""
    from pipelines import summary
    from pipelines.claims import check_claims
    from pipelines.images import load_settings
    from pipelines.kubeflow import Kubeflow
    from pipelines.progress import Progress
    from pipelines.resolve import resolve
    from pipelines.submit import Following, figures_of, start
    from pipelines.upload import require_store

    loaded = load_recipe(recipe) if store is None else load_recipe(recipe).publishing_to(store)
    placement = loaded.placement.on(pool)
    if context is not None:
        check_claims(context, namespace or "kubeflow", placement, claims_in(loaded.addresses.values()))
    kubeflow = Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace)
    # What costs no time is asked first: pinning the inputs may take minutes.
    require_store(loaded.publish.store)
    experiment_id = kubeflow.experiment_id(experiment)
    with Progress(console) as progress:
        progress.started("resolve")
        resolved = resolve(loaded, workdir.absolute(), lambda line: progress.line("resolve", line))
        run_id, there = start(resolved, placement, kubeflow, experiment_id, lambda line: progress.line("resolve", line))
        progress.finished("resolve")
        page = kubeflow.page_of(run_id)
        if load_settings().registry.startswith("localhost"):
            progress.note("the images are named localhost/…: only a cluster on this machine has them (LORRY_REGISTRY)")
        progress.note(f"submitted: {page}")
        if not wait:
            return
        try:
            Following(kubeflow, run_id, progress, look_seconds).until_the_end()
        except KeyboardInterrupt:
            progress.note(f"no longer followed; the run goes on: {page}")
            raise
    figures = figures_of(there, run_id)
    if figures is None:
        progress.note(f"its figures lie on the cluster's volume ({there.publish.store}), and on the page: {page}")
        return
    model = figures["model"]
    places = {"model": f"{model['store']}/models/{model['sha256']}", "page": page}
    summary.show(console, run_id, figures, progress.minutes, places)


@app.command()
def pin(
    overlay: Annotated[Path, typer.Argument(help="folder of a kustomize overlay, such as manifests/overlays/local")],
    model: Annotated[str | None, typer.Option(help="sha256 of a published model; default: the store's newest")] = None,
    store: Annotated[
        str | None, typer.Option(envvar="LORRY_STORE", help="where to look: s3://bucket/folder, gs://… or a folder")
    ] = None,
    server: Annotated[str, typer.Option(help="which Deployment, where an overlay has several")] = "model-server",
) -> None:
    """Write into an overlay which images and which model it serves; `kubectl apply -k` then does it."""
    from pipelines.pin import pin_overlay

    for line in pin_overlay(overlay, model, store, server):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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
    from pipelines.demo import serve_until_stopped
    from pipelines.run_recipe import run_recipe
    from pipelines.workdir import Workdir

    if serve_after:
        from components.listening import require_free_port

        # Asked first: minutes of training should not end in a port that is taken.
        require_free_port(host, server_port, "--server-port")
        require_free_port(host, chat_port, "--chat-port")
    model = run_recipe(console, RECIPES / "demo.yaml", Workdir(workdir.absolute()))
    if serve_after:
        serve_until_stopped(console, model, workdir.absolute(), host, server_port, chat_port)


app.command()(sweep)
app.command()(report)
app.command()(push)
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
