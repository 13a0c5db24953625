"""The runs of a Kubeflow endpoint or a cluster: which are active, and what each reads from the store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.collect_garbage.items import Kind, reference
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.graph.placement import RUN_LABEL

N_RUNS = 500
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_ENDED_WORKFLOW = ("Succeeded", "Failed", "Error")
# Where `lorry submit` puts what a run reads: pipelines/cluster/upload.py.
_INPUT = re.compile(r"/(inputs|base-models)/([0-9a-f]{64}|[0-9a-f]{40})(?:/|$)")
_KINDS: dict[str, Kind] = {"inputs": "input", "base-models": "base model"}


@dataclass(frozen=True)
class KnownRuns:
    """``active``: names by id; ``known``: the ids of all, None where those that have ended are not among them;
    ``reads``: references by the run's id; ``scheduled``: references with the reason."""

    active: Mapping[str, str]
    known: frozenset[str] | None = None
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scheduled: Mapping[str, str] = field(default_factory=dict)


def runs_at(kubeflow: Kubeflow) -> KnownRuns:
    """The newest runs of an endpoint, and its schedules.

    Raises:
        ClusterError: it does not answer, or refuses.
    """
    runs = kubeflow.runs(N_RUNS)
    return KnownRuns(
        active={run.run_id: str(run.display_name) for run in runs if run.state not in ENDED},
        known=frozenset(run.run_id for run in runs),
        reads={run.run_id: tuple(_inputs_in(_parameters(run))) for run in runs},
        scheduled={
            one: f"the schedule {schedule.display_name} reads it"
            for schedule in kubeflow.schedules()
            for one in _inputs_in(_parameters(schedule))
        },
    )


def runs_on_cluster(kubectl: Kubectl) -> KnownRuns:
    """The runs that a cluster's Argo workflows are of; what they read is not known.

    Raises:
        ClusterError: the cluster does not answer, refuses or has no Argo.
    """
    active = {}
    for workflow in kubectl.get("workflows.argoproj.io")["items"]:
        meta = workflow["metadata"]
        if workflow.get("status", {}).get("phase") not in _ENDED_WORKFLOW:
            active[meta.get("labels", {}).get(RUN_LABEL, meta["name"])] = meta["name"]
    return KnownRuns(active=active)


def _parameters(run: Any) -> Any:
    return run.runtime_config.parameters if run.runtime_config else None


def _inputs_in(value: Any) -> Iterable[str]:
    """The references of everything in a store that a parameter names, at any depth."""
    if isinstance(value, str):
        for folder, revision in _INPUT.findall(value):
            yield reference(_KINDS[folder], revision)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _inputs_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from _inputs_in(one)
