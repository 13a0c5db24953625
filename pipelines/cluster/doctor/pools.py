"""The pools that a run's steps are placed on: nodes with the pool's labels, whose taints its pods tolerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pipelines.cluster.doctor.quantity import amount, shown_all
from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.scheduling import Node, PodRequest
from pipelines.cluster.doctor.subject import Subject
from pipelines.config.pools import SPOT_LABEL, Pool, Toleration

GROUP = "pools"


def step_of(name: str, pool: Pool) -> PodRequest:
    """What a step on the pool asks for, as ``pipelines/graph/placement.py`` writes it."""
    wanted = {"cpu": amount(pool.cpu), "memory": amount(pool.memory), "pods": Decimal(1)}
    if pool.gpus:
        wanted[pool.gpu_resource] = Decimal(pool.gpus)
    spot = [Toleration(key=SPOT_LABEL, operator="Equal", value="true")] if pool.spot else []
    tolerations = [one.model_dump(exclude_none=True) for one in [*pool.tolerations, *spot]]
    selector = {**pool.node_selector, **({SPOT_LABEL: "true"} if pool.spot else {})}
    # Its cores have no limit.
    return PodRequest(f"a step on {name}", wanted, selector, tolerations, limits={"memory": amount(pool.memory)})


def nodes(subject: Subject) -> Iterator[Row]:
    """Nodes of each pool: allocatable, and free now."""
    for name, pool in subject.pools.items():
        yield _pool(subject, name, pool, subject.state.ready_nodes)


def _pool(subject: Subject, name: str, pool: Pool, ready: list[Node]) -> Row:
    step = step_of(name, pool)
    check = f"pool {name}"
    chosen = [node for node in ready if node.has_labels(step.selector)]
    if not chosen:
        return _without_label(subject, check, step, pool, ready)
    open_nodes = [node for node in chosen if not node.refusing_taints(step.tolerations)]
    if not open_nodes:
        return _tainted(subject, check, name, step, chosen)
    without = [node for node in open_nodes if pool.gpus and not node.allocatable.get(pool.gpu_resource)]
    if len(without) == len(open_nodes):
        names = ", ".join(node.name for node in without)
        return Row(
            GROUP, check, "missing",
            f"{names}: no {pool.gpu_resource} to allocate; its device plugin is missing, or calls the GPU otherwise "
            f"(placement.pools.{name}.gpu_resource)",
            subject.command(None, "describe", "nodes", without[0].name),
        )  # fmt: skip
    return Row(GROUP, check, "ok", "; ".join(_describe(node, pool) for node in open_nodes[:5]))


def _describe(node: Node, pool: Pool) -> str:
    names = ["cpu", "memory", *([pool.gpu_resource] if pool.gpus else [])]
    return f"{node.name} has {shown_all(node.allocatable, names)}, free now {shown_all(node.free, names)}"


def _without_label(subject: Subject, check: str, step: PodRequest, pool: Pool, ready: list[Node]) -> Row:
    wanted = ",".join(f"{key}={value}" for key, value in step.selector.items())
    with_gpus = [node for node in ready if pool.gpus and node.allocatable.get(pool.gpu_resource)]
    if not ready:
        return Row(GROUP, check, "missing", "no node is ready", subject.command(None, "get", "nodes"))
    if not with_gpus:
        lacks = f" and none has {pool.gpu_resource}: add such nodes, or choose another --pool" if pool.gpus else ""
        return Row(
            GROUP, check, "missing", f"no node has the labels {wanted}{lacks}",
            subject.command(None, "get", "nodes", "--show-labels"),
        )  # fmt: skip
    node = with_gpus[0]
    kinds = ", ".join(f"{key}={value}" for key, value in sorted(node.labels.items()) if _names_a_gpu(key))
    kinds = kinds or "no label that names it"
    setting = f"placement.pools.{check.removeprefix('pool ')}.node_selector"
    return Row(
        GROUP, check, "missing",
        f"no node has the labels {wanted}; {node.name} has {pool.gpu_resource} and {kinds}: write its label into the "
        f"recipe ({setting}), or give the node the pool's",
        subject.command(None, "label", "node", node.name, *wanted.split(",")),
    )  # fmt: skip


def _names_a_gpu(label: str) -> bool:
    return any(word in label for word in ("gpu", "accelerator", "instance-type"))


def _tainted(subject: Subject, check: str, name: str, step: PodRequest, chosen: list[Node]) -> Row:
    node = chosen[0]
    taints = node.refusing_taints(step.tolerations)
    entries = ", ".join(_toleration(one) for one in taints)
    return Row(
        GROUP, check, "missing",
        f"{node.name}: the pool does not tolerate {', '.join(map(_text, taints))}; write into the recipe "
        f"placement.pools.{name}.tolerations: [{entries}], beside what stands there, or take the taint away",
        subject.command(None, "taint", "node", node.name, *(f"{_text(one)}-" for one in taints)),
    )  # fmt: skip


def _text(taint: Mapping[str, Any]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _toleration(taint: Mapping[str, Any]) -> str:
    value = f", operator: Equal, value: {taint['value']}" if taint.get("value") else ""
    return f"{{key: {taint['key']}{value}, effect: {taint['effect']}}}"
