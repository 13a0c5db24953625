"""``lorry submit``: a recipe to a Kubeflow endpoint, and what its run measured."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from components.errors import ModelError
from components.publish_model.publish import figures_key
from components.storage.store import Store
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.cluster.upload import upload_inputs
from pipelines.config.addresses import claims_in
from pipelines.config.pools import Placement
from pipelines.resolve.resolved_recipe import ResolvedRecipe


def start(
    recipe: ResolvedRecipe,
    placement: Placement,
    kubeflow: Kubeflow,
    experiment_id: str,
    report: Callable[[str], None],
    no_reuse: Collection[str] = (),
) -> tuple[str, dict[str, Any]]:
    """Upload, compile and start a run; give its id, and its parameters as they were sent.

    The steps named in ``no_reuse`` run although nothing has changed.

    Raises:
        RecipeError: the recipe names no store that pods reach.
        StoreError: the store refuses or does not answer.
        ClusterError: the endpoint refuses or does not answer.
    """
    from pipelines.graph.placement import CHECKPOINTS

    there = upload_inputs(recipe, kubeflow.namespace or "kubeflow", report)
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "finetune.yaml"
        compile_for(there, placement, document, no_reuse)
        name = f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        arguments = there.arguments(CHECKPOINTS)
        return kubeflow.submit(document, arguments, name, experiment_id), arguments


def compile_for(
    recipe: ResolvedRecipe,
    placement: Placement,
    document: Path,
    no_reuse: Collection[str] = (),
    run_key: str | None = None,
) -> None:
    """Write the pipeline document of a recipe whose inputs pods reach to ``document``; see ``StepPlacer``.

    Raises:
        RecipeError: the image settings cannot be used.
    """
    from pipelines.graph.finetune import compile_finetune

    compile_finetune(
        document,
        placement,
        claims_in(recipe.addresses.values()),
        split_with_model=recipe.split.quality.measures_perplexity,
        store=recipe.publish.store,
        no_reuse=no_reuse,
        run_key=run_key,
    )


def figures_of(store: Store, run_id: str) -> dict[str, Any]:
    """What a finished run measured, as its last step left it in the store.

    Raises:
        StoreError: the store refuses or does not answer.
        ModelError: the run left nothing there.
    """
    try:
        return dict(json.loads(store.read(figures_key(run_id))))
    except FileNotFoundError:
        raise ModelError(f"{store.address_of(figures_key(run_id))}: the run left no figures there") from None
