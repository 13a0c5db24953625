"""What says that something is still needed: overlays, a cluster, Kubeflow; and what could not be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.collect_garbage.items import Item, Kind, Listing, reference
from components.errors import ClusterError, RecipeError
from pipelines.cluster.kubectl import Kubectl, MissingKindError
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.garbage.known_runs import KnownRuns, runs_at, runs_on_cluster
from pipelines.garbage.pins import namespaces_of, pins_of_overlays, pins_on_cluster


@dataclass(frozen=True)
class Sources:
    """Where is asked; ``is_chosen``: the user named the contexts of the clusters."""

    overlays: Sequence[Path] = ()
    clusters: Sequence[Kubectl] = ()
    is_chosen: bool = False
    kubeflow: Kubeflow | None = None


@dataclass
class Knowledge:
    """What stays, as ``Rules`` takes it. ``looked_at`` are lines for the user: what was asked and what was not."""

    pins: dict[str, str] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: dict[Kind, str] = field(default_factory=dict)
    looked_at: list[str] = field(default_factory=list)
    runs: KnownRuns | None = None


def has_kubeconfig() -> bool:
    """Whether kubectl has a configuration on this machine.

    Raises:
        RecipeError: ``KUBECONFIG`` names no file: a mistyped path must not pass for a machine without a cluster.
    """
    given = os.environ.get("KUBECONFIG")
    if given and not any(path and Path(path).is_file() for path in given.split(os.pathsep)):
        raise RecipeError(
            f"KUBECONFIG = {given!r}: no such file, so no cluster says which models it serves; correct it, or give "
            "--no-cluster"
        )
    return bool(given) or (Path.home() / ".kube" / "config").is_file()


def gather(sources: Sources) -> Knowledge:
    """Ask every source.

    Raises:
        RecipeError: a folder is no overlay.
        ClusterError: the endpoint, or the cluster whose context was named, does not answer or refuses.
    """
    found = Knowledge()
    found.pins.update(pins_of_overlays(sources.overlays))
    named = ", ".join(str(overlay) for overlay in sources.overlays)
    found.looked_at.append(f"overlays: {named}" if named else "overlays: none (--overlay names one)")
    for cluster in sources.clusters:
        _ask_cluster(cluster, sources, found)
    if not sources.clusters:
        found.looked_at.append("cluster: none (--context names one); what it serves is known by the overlays alone")
    _ask_for_runs(sources, found)
    return found


def _ask_cluster(cluster: Kubectl, sources: Sources, found: Knowledge) -> None:
    where = f"context {cluster.context}" if cluster.context else "the kubeconfig's current context"
    try:
        pins, there = pins_on_cluster(cluster, namespaces_of(sources.overlays))
    except ClusterError as error:
        if sources.is_chosen:
            raise
        found.unknown["model"] = "which models the cluster serves is not known"
        found.looked_at.append(f"cluster: not known: {error}; all models stay; --no-cluster goes without it")
        return
    for one, reason in pins.items():
        found.pins.setdefault(one, reason)
    n = len(pins)
    models = f"{n} model{'' if n == 1 else 's'}"
    found.looked_at.append(f"cluster: {where}: Deployments and ReplicaSets {there} name {models}")


def _ask_for_runs(sources: Sources, found: Knowledge) -> None:
    if sources.kubeflow is None:
        unread = "which runs and schedules read it is not known: give --endpoint"
        found.unknown |= {"input": unread, "base model": unread}
        where = _ask_workflows(sources.clusters, found)
    else:
        found.runs = runs_at(sources.kubeflow)
        where = sources.kubeflow.endpoint
    if found.runs is None:
        found.unknown["checkpoints"] = "which runs are active is not known: give --endpoint"
        found.looked_at.append(f"Kubeflow: {where}")
        return
    found.looked_at.append(f"Kubeflow: {where}: {_active(found.runs.active)}")
    _keep_what_runs_use(found.runs, found)
    if sources.kubeflow is not None and sources.is_chosen:
        for cluster in sources.clusters:
            _ask_named_context(cluster, found.runs, found)


def _ask_named_context(cluster: Kubectl, asked: KnownRuns, found: Knowledge) -> None:
    """Ask a cluster beside the endpoint, which may be another's: of its runs it is not known what they read."""
    where = f"context {cluster.context}: the workflows in the namespace {cluster.namespace}"
    try:
        active = runs_on_cluster(cluster).active
    except MissingKindError:
        found.looked_at.append(f"{where}: none, it has no Argo")
        return
    except ClusterError as error:
        unread = f"which runs are active in context {cluster.context} is not known"
        found.unknown |= {"input": unread, "base model": unread, "checkpoints": unread}
        found.looked_at.append(f"{where}: not known: {error}")
        return
    found.looked_at.append(f"{where}: {_active(active)}")
    for run, name in active.items():
        if run not in (asked.known or ()):
            found.pins[reference("run", run)] = f"it is active in context {cluster.context}"
            reads = f"the run {name} of context {cluster.context} is active and may read it"
            found.unknown |= {"input": reads, "base model": reads}
            found.unknown.setdefault("checkpoints", f"the run {name} is active and may go on from it")


def _active(runs: Mapping[str, str]) -> str:
    return f"{len(runs)} active run{'' if len(runs) == 1 else 's'}"


def _ask_workflows(clusters: Sequence[Kubectl], found: Knowledge) -> str:
    """Ask every cluster for its active runs, and give what was asked in words."""
    if not clusters:
        return "none (--endpoint names one)"
    try:
        active = {run: name for cluster in clusters for run, name in runs_on_cluster(cluster).active.items()}
    except ClusterError as error:
        return f"not known: {error}"
    found.runs = KnownRuns(active)
    return f"the workflows in the namespace {clusters[0].namespace}"


def _keep_what_runs_use(runs: KnownRuns, found: Knowledge) -> None:
    found.pins.update(runs.scheduled)
    found.needs.update({reference("run", run): reads for run, reads in runs.reads.items()})
    for run, name in runs.active.items():
        found.pins[reference("run", run)] = "it is active in Kubeflow"
        found.pins.update(dict.fromkeys(runs.reads.get(run, ()), f"the active run {name} reads it"))
        # Which folder it goes on from is known when it trains: until then it may be any.
        found.unknown.setdefault("checkpoints", f"the run {name} is active and may go on from it")


def of_foreign_runs(listings: Mapping[str, Listing], runs: KnownRuns | None) -> dict[str, list[Item]]:
    """By the store's address, the runs there that the endpoint does not know: another Kubeflow uses it too."""
    if runs is None or runs.known is None:
        return {}
    known = runs.known
    found = {
        address: [
            item
            for item in listing.items
            if item.kind == "run" and item.name not in known and not _was_on_a_machine(item.name)
        ]
        for address, listing in listings.items()
        if listing.kind == "store"
    }
    return {address: items for address, items in found.items() if items}


def _was_on_a_machine(run: str) -> bool:
    """Whether a run's id is a number of kfp.local: its figures are all that it writes, and its last step writes them.

    A schedule's key of 16 hexadecimal digits may consist of decimal ones.
    """
    return run.isdecimal() and len(run) < 16
