"""The runs of a Kubeflow endpoint or a cluster: which are active, and what each reads from the store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.collect_garbage.items import Kind, reference
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.cluster.run_facts import run_key_in
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
    runs, schedules = kubeflow.runs(N_RUNS), kubeflow.schedules()
    scheduled = {}
    for schedule in schedules:
        # Its runs publish once, under its key, while the recipe is the same.
        named = [reference("run", _key_of(schedule)), *_inputs_in(_parameters(schedule))]
        scheduled.update(dict.fromkeys(named, f"the schedule {schedule.display_name} uses it"))
    return KnownRuns(
        active={run.run_id: str(run.display_name) for run in runs if run.state not in ENDED},
        known=frozenset({run.run_id for run in runs} | {_key_of(one) for one in (*runs, *schedules)}),
        reads={run.run_id: tuple(_inputs_in(_parameters(run))) for run in runs},
        scheduled=scheduled,
    )


def _key_of(run: Any) -> str:
    """The name of what a run or a schedule has in the store, beside a run's own notes; empty where it is no Lorry's."""
    spec = run.pipeline_spec
    return (run_key_in(spec) if isinstance(spec, Mapping) else None) or ""


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
