"""The commands that send a recipe to a cluster: ``lorry compile`` and ``submit``."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.errors import RecipeError
from pipelines.commands.estimate import report_estimate
from pipelines.commands.no_reuse import NoReuse, steps_without_reuse
from pipelines.commands.options import (
    DEFAULT_WORKDIR,
    Context,
    Endpoint,
    Experiment,
    LookSeconds,
    Namespace,
    PipelineRoot,
    PoolName,
    RecipePath,
    StoreAddress,
    WorkdirPath,
)
from pipelines.commands.runs import follow_run, show_submitted
from pipelines.config.addresses import claims_in
from pipelines.config.recipe import load_recipe
from pipelines.config.steps import RUN_STEPS, names_of

console = Console()


def compile_document(
    recipe: RecipePath,
    pool: PoolName = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="where to write the pipeline document")] = Path(
        "finetune.yaml"
    ),
    no_reuse: NoReuse = None,
) -> None:
    """Write the pipeline document that `lorry submit` sends: its steps placed on pools, its images named by content."""
    from pipelines.graph.finetune import compile_finetune

    loaded = load_recipe(recipe)
    if output.suffix != ".yaml" or not output.absolute().parent.is_dir():
        raise RecipeError(f"--output {output}: give the path of a .yaml file in a folder that is there")
    compile_finetune(
        output,
        loaded.placement.on(pool),
        claims_in(loaded.addresses.values()),
        split_with_model=loaded.split.quality.measures_perplexity,
        store=loaded.publish.store,
        no_reuse=steps_without_reuse(no_reuse, names_of(RUN_STEPS)),
    )
    console.print(f"written: {output}", markup=False, highlight=False, soft_wrap=True)


def submit(
    recipe: RecipePath,
    endpoint: Endpoint,
    namespace: Namespace = None,
    experiment: Experiment = "lorry",
    pool: PoolName = None,
    store: StoreAddress = None,
    context: Context = None,
    wait: Annotated[bool, typer.Option("--wait", help="follow the run, and end with its figures")] = False,
    look_seconds: LookSeconds = 5.0,
    no_reuse: NoReuse = None,
    pipeline_root: PipelineRoot = None,
    workdir: WorkdirPath = DEFAULT_WORKDIR,
) -> None:
    """Run a recipe's whole pipeline on a cluster (a token, where it needs one: KFP_TOKEN)."""
    from pipelines.cluster.kubeflow import Kubeflow
    from pipelines.cluster.pvc_check import check_claims
    from pipelines.cluster.submit import start
    from pipelines.cluster.upload import require_store
    from pipelines.estimate.submitted import keep_submitted
    from pipelines.preflight.base_check import require_usable_bases
    from pipelines.preflight.split_check import check_split
    from pipelines.resolve.resolved_recipe import resolve
    from pipelines.terminal.progress import Progress

    always = steps_without_reuse(no_reuse, names_of(RUN_STEPS))
    loaded = load_recipe(recipe) if store is None else load_recipe(recipe).publishing_to(store)
    placement = loaded.placement.on(pool)
    check_split(loaded.split)
    if context is not None:
        check_claims(context, namespace or "kubeflow", placement, claims_in(loaded.addresses.values()))
    kubeflow = Kubeflow(endpoint, os.environ.get("KFP_TOKEN"), namespace)
    # What costs no time is asked first: pinning the inputs may take minutes.
    require_store(loaded.publish.store)
    experiment_id = kubeflow.experiment_id(experiment)
    with Progress(console) as progress:
        progress.started("resolve")
        report = partial(progress.line, "resolve")
        resolved = resolve(loaded, workdir.absolute(), report)
        bases = [(resolved.base_model, resolved.train.lora_target_modules)]
        require_usable_bases(bases, report)
        report_estimate(loaded, placement, workdir.absolute(), report, base=resolved.base_model)
        run_id, sent = start(resolved, placement, kubeflow, experiment_id, report, always)
        keep_submitted(workdir.absolute(), run_id, resolved, placement, resolved.publish.store)
        progress.finished("resolve")
        show_submitted(kubeflow, run_id, progress)
        if wait:
            follow_run(kubeflow, run_id, progress, context, look_seconds, pipeline_root, workdir, sent)
