"""Room: what serving, a roll-out and a run's largest step ask for, beside what nodes and quotas have free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from math import ceil
from typing import Any

from pipelines.cluster.doctor.pools import step_of
from pipelines.cluster.doctor.quantity import shown, shown_all
from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.scheduling import Node, PodRequest, nodes_of, place, request_of
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.overlay import Manifest
from pipelines.graph.placement import RUN_LABEL

GROUP = "room"


def serving(subject: Subject) -> Iterator[Row]:
    """Room for the overlay's pods that do not run yet, and for the pod that a roll-out starts beside them."""
    if subject.overlay is None:
        return
    to_come = to_serve(subject)
    after, left = place(to_come, subject.state.ready_nodes)
    yield _row(subject, "serving", to_come, left, subject.state.ready_nodes, "everything that serves runs already")
    surge = to_roll_out(subject)
    _, left = place(surge, after)
    yield _row(subject, "a roll-out", surge, left, after, "no Deployment starts a pod beside its old ones")


def run(subject: Subject) -> Iterator[Row]:
    """Room for a run's step on each of its pools, beside serving."""
    after, _ = place(to_serve(subject), subject.state.ready_nodes)
    # Steps of runs that are going on end by themselves.
    pods = [pod for pod in subject.state.pods if RUN_LABEL not in pod["metadata"].get("labels", {})]
    idle, _ = place(to_serve(subject), nodes_of(subject.state.nodes, pods))
    for name, pool in subject.pools.items():
        step = step_of(name, pool)
        check = f"a step on {name}"
        if any(node.takes(step) for node in after):
            yield Row(GROUP, check, "ok", f"asks for {shown_all(step.wanted)}; {_free(step, after)}")
        elif any(node.takes(step) for node in idle):
            yield Row(GROUP, check, "warning", f"asks for {shown_all(step.wanted)}: waits until steps that run now end")
        else:
            yield Row(
                GROUP, check, "missing",
                f"asks for {shown_all(step.wanted)} and would wait forever: {_free(step, idle)}",
                _smaller(name, step, idle),
            )  # fmt: skip


def to_serve(subject: Subject) -> list[PodRequest]:
    """The pods of the overlay's Deployments that do not run yet."""
    if subject.overlay is None:
        return []
    wanted = []
    for one in subject.overlay.of_kind("Deployment"):
        request = request_of(one["metadata"]["name"], one["spec"]["template"]["spec"])
        running = sum(_is_of(pod, subject.overlay.namespace, one) for pod in subject.state.pods)
        wanted += [request] * max(0, one["spec"].get("replicas", 1) - running)
    return wanted


def to_roll_out(subject: Subject) -> list[PodRequest]:
    """The pods that the largest roll-out starts before it ends old ones."""
    surges = [_surge(one) for one in (subject.overlay.of_kind("Deployment") if subject.overlay else [])]
    return max(surges, key=lambda pods: sum(one.wanted.get("cpu", 0) for one in pods), default=[])


def _surge(deployment: Manifest) -> list[PodRequest]:
    strategy = deployment["spec"].get("strategy", {})
    if strategy.get("type") == "Recreate":
        return []
    number: Any = strategy.get("rollingUpdate", {}).get("maxSurge", "25%")
    if isinstance(number, str):
        number = ceil(int(number.rstrip("%")) / 100 * deployment["spec"].get("replicas", 1))
    return [request_of(deployment["metadata"]["name"], deployment["spec"]["template"]["spec"])] * number


def _is_of(pod: Manifest, namespace: str, deployment: Manifest) -> bool:
    labels, selector = pod["metadata"].get("labels", {}), deployment["spec"]["selector"]["matchLabels"]
    return bool(pod["metadata"]["namespace"] == namespace and selector.items() <= labels.items())


def _row(
    subject: Subject, check: str, pods: list[PodRequest], left: list[PodRequest], nodes: Sequence[Node], none: str
) -> Row:
    if not pods:
        return Row(GROUP, check, "ok", none)
    asked = "; ".join(dict.fromkeys(f"{one.name} asks for {shown_all(one.wanted)}" for one in pods))
    if not left:
        return Row(GROUP, check, "ok", f"{asked}; {_free(pods[0], nodes)}")
    lacks = left[0]
    return Row(
        GROUP, check, "missing", f"{asked}; {lacks.name} would wait forever: {_free(lacks, nodes)}",
        subject.command(None, "describe", "nodes"),
    )  # fmt: skip


def _free(pod: PodRequest, nodes: Iterable[Node]) -> str:
    """What each node that could take the pod has free."""
    could = [node for node in nodes if node.has_labels(pod.selector) and not node.refusing_taints(pod.tolerations)]
    names = [name for name in pod.wanted if name != "pods"]
    each = [
        f"{node.name} has {', '.join(shown(name, node.free.get(name, Decimal(0))) for name in names)} free"
        for node in could
    ]
    return "; ".join(each[:4]) or "no node has its labels and takes its tolerations"


def _smaller(name: str, step: PodRequest, nodes: Iterable[Node]) -> str:
    """The lines of a recipe with which a step would fit on the node with most cores free."""
    could = [node for node in nodes if node.has_labels(step.selector) and not node.refusing_taints(step.tolerations)]
    if not could:
        return ""
    free = max((node.free for node in could), key=lambda one: one["cpu"])
    cores, mib = int(free["cpu"] * 1000) // 100 * 100, int(free["memory"] / 2**20)
    if cores < 100 or mib < 512:
        return ""
    cores, mib = min(cores, int(step.wanted["cpu"] * 1000)), min(mib, int(step.wanted["memory"] / 2**20))
    return f"# write into the recipe: placement: {{pools: {{{name}: {{cpu: {cores}m, memory: {mib}Mi}}}}}}"
