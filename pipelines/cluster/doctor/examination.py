"""One visit from the command's options to the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipelines.cluster.doctor.checks import examine
from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.subject import KUBEFLOW, ClusterState, Subject
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import load_overlay, render
from pipelines.config.addresses import claims_in, pod_path
from pipelines.config.pools import Placement
from pipelines.config.recipe import Recipe
from pipelines.graph.images import load_settings


def examine_cluster(
    context: str | None,
    overlay: Path | None,
    recipe: Recipe | None,
    pool: str | None,
    namespace: str | None,
    kubeflow: tuple[str | None, str | None],
    *,
    probe: bool,
    report: Callable[[str], None],
) -> list[Row]:
    """Look at everything; ``kubeflow`` is its endpoint and token, ``report`` gets a line of progress.

    Raises:
        ClusterError: the cluster does not answer at all.
        RecipeError: the overlay does not render, or there is no such pool.
    """
    kubectl = Kubectl(context)
    loaded = load_overlay(kubectl, overlay) if overlay else None
    has_pipelines = overlay is not None and (overlay / "pipelines" / "kustomization.yaml").is_file()
    pipelines = render(kubectl, overlay / "pipelines") if overlay and has_pipelines else None
    kubectl.run("version", "--output=json")  # a cluster that does not answer is one line, not a table
    subject = Subject(
        kubectl=kubectl,
        state=ClusterState(kubectl),
        placement=(recipe.placement if recipe else Placement()).on(pool),
        run_namespace=namespace or (pipelines.namespace if pipelines else KUBEFLOW),
        settings=load_settings(),
        overlay=loaded,
        pipelines=pipelines,
        run_store=pod_path(recipe.publish.store) if recipe and recipe.publish.store else None,
        claims=claims_in(recipe.addresses.values()) if recipe else (),
        endpoint=kubeflow[0],
        token=kubeflow[1],
        profile=namespace,
        probing=probe,
    )
    if probe:
        from pipelines.cluster.doctor.probes.plan import run_probes

        subject = replace(subject, outcomes=run_probes(subject, report))
    return list(examine(subject))
