"""Which node takes a pod: requests, selectors and taints, counted as Kubernetes' scheduler counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from pipelines.cluster.doctor.quantity import Amounts, amounts, lacking, less, total
from pipelines.cluster.overlay import Manifest

# Taints with another effect only make a node the last choice.
REFUSING = ("NoSchedule", "NoExecute")


@dataclass(frozen=True)
class PodRequest:
    """What a pod asks of a node, and the limits that quotas count."""

    name: str
    wanted: Amounts
    selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    limits: Amounts = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """A node, with what the pods that run on it ask for."""

    name: str
    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, Any]]
    allocatable: Amounts
    used: Amounts

    @property
    def free(self) -> dict[str, Decimal]:
        """What a new pod can ask for."""
        return less(self.allocatable, self.used)

    def has_labels(self, selector: Mapping[str, str]) -> bool:
        """Whether a node selector chooses it."""
        return selector.items() <= self.labels.items()

    def refusing_taints(self, tolerations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The taints that keep a pod with these tolerations away."""
        return [
            taint
            for taint in self.taints
            if taint["effect"] in REFUSING and not any(_tolerates(one, taint) for one in tolerations)
        ]

    def takes(self, pod: PodRequest) -> bool:
        """Whether the pod would be placed here."""
        allowed = self.has_labels(pod.selector) and not self.refusing_taints(pod.tolerations)
        return allowed and not lacking(pod.wanted, self.free)


def nodes_of(nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> list[Node]:
    """The nodes that are ready, with what ``pods`` ask of them."""
    used: dict[str, list[Amounts]] = {}
    for pod in pods:
        if where := pod["spec"].get("nodeName"):
            used.setdefault(where, []).append(wanted_by(pod["spec"]))
    return [
        Node(
            name=one["metadata"]["name"],
            labels=one["metadata"].get("labels", {}),
            taints=one["spec"].get("taints", []),
            allocatable=amounts(one["status"].get("allocatable")),
            used=total(used.get(one["metadata"]["name"], [])),
        )
        for one in nodes
        if _is_ready(one)
    ]


def request_of(name: str, spec: Manifest) -> PodRequest:
    """What a pod with this spec asks for."""
    limits = _of_containers(spec, _limits)
    return PodRequest(name, wanted_by(spec), spec.get("nodeSelector", {}), spec.get("tolerations", []), limits)


def wanted_by(spec: Manifest) -> dict[str, Decimal]:
    """The requests of a pod."""
    return {**total([_of_containers(spec, _requests), amounts(spec.get("overhead"))]), "pods": Decimal(1)}


def _of_containers(spec: Manifest, of: Callable[[Manifest], Amounts]) -> dict[str, Decimal]:
    """The sum over a pod's containers, or its largest init container where that is more."""
    beside = [one for one in spec.get("initContainers", []) if one.get("restartPolicy") == "Always"]
    before = [one for one in spec.get("initContainers", []) if one.get("restartPolicy") != "Always"]
    found = total(of(one) for one in [*spec["containers"], *beside])
    for init in before:
        for name, number in total([of(init), *map(of, beside)]).items():
            found[name] = max(number, found.get(name, Decimal(0)))
    return found


def place(pods: Iterable[PodRequest], nodes: Sequence[Node]) -> tuple[list[Node], list[PodRequest]]:
    """Put pods on nodes, the largest first; give the nodes as they are then, and the pods that found none."""
    after, left = list(nodes), []
    for pod in sorted(pods, key=lambda one: (one.wanted.get("cpu", 0), one.wanted.get("memory", 0)), reverse=True):
        for index, node in enumerate(after):
            if node.takes(pod):
                after[index] = replace(node, used=total([node.used, pod.wanted]))
                break
        else:
            left.append(pod)
    return after, left


def _requests(container: Manifest) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    # A limit without a request is a request too.
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _limits(container: Manifest) -> dict[str, Decimal]:
    return amounts((container.get("resources") or {}).get("limits"))


def _is_ready(node: Manifest) -> bool:
    conditions = node["status"].get("conditions", [])
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return is_ready and not node["spec"].get("unschedulable")


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
