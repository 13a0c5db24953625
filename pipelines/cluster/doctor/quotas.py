"""Resource quotas of the two namespaces, beside what Lorry's pods ask for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal

from pipelines.cluster.doctor.pools import step_of
from pipelines.cluster.doctor.quantity import Amounts, amount, amounts, shown, total
from pipelines.cluster.doctor.room import to_roll_out, to_serve
from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.scheduling import PodRequest
from pipelines.cluster.doctor.storage import claims_of
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.overlay import Manifest

GROUP = "quota"


def quotas(subject: Subject) -> Iterator[Row]:
    """Whether what is to come fits into each quota."""
    for namespace in subject.namespaces:
        quotas = subject.kubectl.in_namespace(namespace).get("resourcequotas")["items"]
        wanted = total([*map(_counted, _to_come(subject, namespace)), *_claims_to_come(subject, namespace)])
        rows = [row for quota in quotas for row in _quota(subject, namespace, quota, wanted)]
        yield from rows or [Row(GROUP, namespace, "ok", "none" if not quotas else "leaves room for what is to come")]


def _to_come(subject: Subject, namespace: str) -> Iterator[PodRequest]:
    if subject.overlay is not None and namespace == subject.overlay.namespace:
        yield from to_serve(subject)
        yield from to_roll_out(subject)
    if namespace == subject.run_namespace:
        steps = [step_of(name, pool) for name, pool in subject.pools.items()]
        yield max(steps, key=lambda step: (step.wanted["cpu"], step.wanted["memory"]))


def _counted(pod: PodRequest) -> Amounts:
    return {**pod.wanted, **{f"limits.{name}": limit for name, limit in pod.limits.items()}}


def _claims_to_come(subject: Subject, namespace: str) -> Iterator[Amounts]:
    for where, name, manifest in claims_of(subject):
        if where == namespace and manifest and not subject.state.get(namespace, "persistentvolumeclaim", name):
            size = amount(manifest["spec"]["resources"]["requests"]["storage"])
            yield {"persistentvolumeclaims": Decimal(1), "storage": size}


def _quota(subject: Subject, namespace: str, quota: Manifest, wanted: dict[str, Decimal]) -> Iterator[Row]:
    name = quota["metadata"]["name"]
    if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
        return  # for pods of some kind only
    hard, used = amounts(quota["spec"].get("hard")), amounts((quota.get("status") or {}).get("used"))
    raised = {}
    for key, limit in hard.items():
        asked = wanted.get(key.removeprefix("requests."), Decimal(0))
        if asked and used.get(key, Decimal(0)) + asked > limit:
            raised[key] = used.get(key, Decimal(0)) + asked
    if raised:
        lacks = "; ".join(
            f"{key}: {_shown(key, hard[key])} allowed, {_shown(key, used.get(key, Decimal(0)))} used, "
            f"{_shown(key, needed - used.get(key, Decimal(0)))} to come"
            for key, needed in raised.items()
        )
        patch = json.dumps({"spec": {"hard": {key: _quantity(key, needed) for key, needed in raised.items()}}})
        yield Row(
            GROUP, f"{name} in {namespace}", "missing", lacks,
            subject.command(namespace, "patch", "resourcequota", name, "--type=merge", f"--patch={patch}"),
        )  # fmt: skip
    if "limits.cpu" in hard and namespace == subject.run_namespace and not _has_default_limit(subject, namespace):
        yield Row(
            GROUP, f"{name} in {namespace}", "missing",
            "limits.cpu: it refuses pods without a limit of cores, and the steps of runs have none; a LimitRange gives "
            "them one", _limit_range(subject, namespace),
        )  # fmt: skip


def _shown(key: str, number: Decimal) -> str:
    # The line begins with the key.
    return shown(key, number).removesuffix(f" {key}")


def _quantity(key: str, number: Decimal) -> str:
    if key.endswith("cpu"):
        return f"{int(number * 1000)}m"
    return f"{int(number / 2**20)}Mi" if key.endswith(("memory", "storage")) else str(int(number))


def _has_default_limit(subject: Subject, namespace: str) -> bool:
    ranges: Iterable[Manifest] = subject.kubectl.in_namespace(namespace).get("limitranges")["items"]
    return any("cpu" in limit.get("default", {}) for one in ranges for limit in one["spec"]["limits"])


def _limit_range(subject: Subject, namespace: str) -> str:
    cores = max(amount(pool.cpu) for pool in subject.pools.values())
    limits = [{"type": "Container", "default": {"cpu": _quantity("cpu", cores)}}]
    manifest = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "lorry-steps"},
        "spec": {"limits": limits},
    }
    return f"echo '{json.dumps(manifest)}' | {subject.command(namespace, 'apply', '-f', '-')}"
