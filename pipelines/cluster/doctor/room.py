"""Room: what serving, a roll-out and a run's largest step ask for, beside what nodes and quotas have free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    to_come, surge = to_serve(subject), to_roll_out(subject)
    looking = subject.command(None, "describe", "nodes")
    if any(one.wanted.get("cpu", 0) > 1 for one in to_come + surge):
        looking = (
            f"# write under components of {subject.overlay.folder}/kustomization.yaml: - ../../components/one-machine"
        )
    yield _row(subject, "serving", to_come, [], looking) if to_come else _none("serving", "what serves runs already")
    yield (
        _row(subject, "a roll-out", surge, to_come, looking) if surge else _none("a roll-out", "it starts no pod more")
    )


def run(subject: Subject) -> Iterator[Row]:
    """Room for a run's step on each of its pools, beside serving."""
    to_come = to_serve(subject)
    for name, pool in subject.pools.items():
        step = step_of(name, pool)
        smaller = _smaller(name, step, place(to_come, _idle(subject))[0])
        yield _row(subject, f"a step on {name}", [step], to_come, smaller)


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


def _row(subject: Subject, check: str, pods: list[PodRequest], before: list[PodRequest], fix: str) -> Row:
    """Whether ``pods`` find room after those ``before`` them: now, or when the steps that run now have ended."""
    asked = "; ".join(dict.fromkeys(f"{one.name} asks for {shown_all(one.wanted)}" for one in pods))
    nodes, _ = place(before, subject.state.ready_nodes)
    if not place(pods, nodes)[1]:
        return Row(GROUP, check, "ok", f"{asked}; {_free(pods[0], nodes)}")
    nodes, _ = place(before, _idle(subject))
    left = place(pods, nodes)[1]
    if not left:
        return Row(GROUP, check, "warning", f"{asked}: waits until steps that run now end")
    return Row(GROUP, check, "missing", f"{asked}; {left[0].name} would wait forever: {_free(left[0], nodes)}", fix)


def _none(check: str, why: str) -> Row:
    return Row(GROUP, check, "ok", why)


def _idle(subject: Subject) -> list[Node]:
    """The nodes without the steps of runs that are going on: they end by themselves."""
    pods = [pod for pod in subject.state.pods if RUN_LABEL not in pod["metadata"].get("labels", {})]
    return nodes_of(subject.state.nodes, pods)


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
