"""Every check, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from components.errors import ClusterError
from pipelines.cluster.doctor import (
    admission,
    autoscaling,
    images,
    kubeflow,
    kubernetes,
    namespaces,
    network,
    pools,
    quotas,
    room,
    secrets,
    storage,
)
from pipelines.cluster.doctor.kubernetes import granting
from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.kubectl import ForbiddenError


@dataclass(frozen=True)
class Check:
    """One function that gives rows; ``name`` is the row's where it cannot look."""

    group: str
    name: str
    rows: Callable[[Subject], Iterator[Row]]


CHECKS = (
    Check(kubernetes.GROUP, "version", kubernetes.version),
    Check(kubernetes.GROUP, "kinds", kubernetes.kinds),
    Check(kubernetes.GROUP, "rights", kubernetes.rights),
    Check(kubeflow.GROUP, "api", kubeflow.api),
    Check(kubeflow.GROUP, "retries", kubeflow.retries),
    Check(namespaces.GROUP, "namespaces", namespaces.namespaces),
    Check(pools.GROUP, "pools", pools.nodes),
    Check(storage.GROUP, "default class", storage.default_class),
    Check(storage.GROUP, "claims", storage.claims),
    Check(storage.GROUP, "prepared volumes", storage.prepared),
    Check(storage.GROUP, "writing", storage.access),
    Check(secrets.GROUP, "store", secrets.store),
    Check(secrets.GROUP, "others", secrets.others),
    Check(images.GROUP, "pulls", images.pulls),
    Check(images.GROUP, "processors", images.processors),
    Check(network.GROUP, "policies", network.policies),
    Check(network.GROUP, "store", network.stores),
    Check(network.GROUP, "hub", network.hub),
    Check(autoscaling.GROUP, "metrics adapter", autoscaling.adapter),
    Check(quotas.GROUP, "quotas", quotas.quotas),
    Check(admission.GROUP, "pods", admission.pods),
    Check(room.GROUP, "room to serve", room.serving),
    Check(room.GROUP, "room for a run", room.run),
)


def examine(subject: Subject) -> Iterator[Row]:
    """The rows of every check; one that may not look, or gets no answer, says so in its row."""
    for check in CHECKS:
        try:
            yield from check.rows(subject)
        except ForbiddenError as error:
            says = f"not looked at: {error.right.user} has no right to {error.right}; an administrator gives it"
            yield Row(check.group, check.name, "warning", says, granting([error.right]))
        except ClusterError as error:
            yield Row(check.group, check.name, "missing", str(error))
