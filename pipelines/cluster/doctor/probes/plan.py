"""Which pods ``--probe`` starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from pipelines.cluster.doctor import images, network, storage
from pipelines.cluster.doctor.pools import step_of
from pipelines.cluster.doctor.probes import scripts
from pipelines.cluster.doctor.probes.pod import STEP_USER, ProbePod
from pipelines.cluster.doctor.probes.running import run_pods
from pipelines.cluster.doctor.subject import Outcome, Subject
from pipelines.cluster.kubectl import ForbiddenError
from pipelines.cluster.overlay import UNPINNED
from pipelines.graph.images import reference


def run_probes(subject: Subject, report: Callable[[str], None]) -> dict[str, Outcome]:
    """Start the pods of every probe, wait for them, delete them; give their outcomes by name.

    Raises:
        ClusterError: this user may not look at pods, or the cluster no longer answers.
    """
    probes = [one for part in (_pulls, _reach, _claims, _processors, _policies) for one in _allowed(part(subject))]
    namespaces = {one.namespace for one in probes}
    there = {namespace for namespace in namespaces if _exists(subject, namespace)}
    return run_pods(subject.kubectl, [one for one in probes if one.namespace in there], report)


def _allowed(probes: Iterator[ProbePod]) -> Iterator[ProbePod]:
    """The probes up to one that takes a right which this user lacks: the check's own row names it."""
    with suppress(ForbiddenError):
        yield from probes


def _exists(subject: Subject, namespace: str) -> bool:
    try:
        return subject.state.get("", "namespace", namespace) is not None
    except ForbiddenError:
        return True


def _reach(subject: Subject) -> Iterator[ProbePod]:
    runs = subject.run_namespace
    yield ProbePod("hub", runs, _tool(subject, runs), scripts.HUB, **_at_home(subject, runs))
    for namespace, address in network.store_addresses(subject):
        yield ProbePod(
            f"store from {namespace}", namespace, _tool(subject, namespace), scripts.STORE, [address],
            subject.placement.store_secret, **_at_home(subject, namespace),
        )  # fmt: skip


def _claims(subject: Subject) -> Iterator[ProbePod]:
    for namespace in subject.namespaces:
        if claims := storage.bound_claims(subject, namespace):
            yield ProbePod(
                f"claims in {namespace}", namespace, _tool(subject, namespace), scripts.CLAIMS, claims, claims=claims,
                **_at_home(subject, namespace),
            )  # fmt: skip


def _processors(subject: Subject) -> Iterator[ProbePod]:
    runs, step = subject.run_namespace, step_of("cpu", subject.placement.pools["cpu"])
    for node in images.cpu_nodes(subject):
        where = {"kubernetes.io/hostname": node.labels.get("kubernetes.io/hostname", node.name)}
        yield ProbePod(
            f"processor of {node.name}", runs, _tool(subject, runs), scripts.PROCESSOR, selector=where,
            tolerations=step.tolerations,
        )  # fmt: skip


def _policies(subject: Subject) -> Iterator[ProbePod]:
    if subject.overlay is not None and subject.overlay.of_kind("NetworkPolicy"):
        namespace = subject.overlay.namespace
        for kind in ("open", "closed"):
            yield ProbePod(
                f"policy {kind}", namespace, _tool(subject, namespace), scripts.POLICY, [kind],
                is_closed=kind == "closed", **_at_home(subject, namespace),
            )  # fmt: skip


def _pulls(subject: Subject) -> Iterator[ProbePod]:
    for one in images.used(subject):
        if one.image.startswith(UNPINNED):
            continue
        step = step_of("image", one.pool) if one.pool else None
        where: dict[str, Any] = _at_home(subject, one.namespace)
        if step is not None:
            where |= {"selector": step.selector, "tolerations": step.tolerations}
        yield ProbePod(one.probe, one.namespace, one.image, scripts.PULL, **where)


def _tool(subject: Subject, namespace: str) -> str:
    """The image with Lorry's modules that is pulled in a namespace anyway."""
    if subject.overlay is not None and namespace == subject.overlay.namespace != subject.run_namespace:
        for image in subject.overlay.images():
            if image.rpartition(":")[0].endswith("/model-server") and not image.startswith(UNPINNED):
                return image
    return reference("data", subject.settings)


def _at_home(subject: Subject, namespace: str) -> dict[str, Any]:
    """Where and as whom pods of a namespace run: the overlay's as its Deployments say, the steps' as Kubeflow's."""
    if subject.overlay is None or namespace != subject.overlay.namespace or namespace == subject.run_namespace:
        secret = subject.placement.image_pull_secret
        step = step_of("small", subject.placement.pools["small"])
        return {
            "selector": step.selector,
            "tolerations": step.tolerations,
            "pull_secrets": [secret] if secret else [],
            "user": STEP_USER,
        }
    pods = [one["spec"]["template"]["spec"] for one in subject.overlay.of_kind("Deployment")]
    pod: Mapping[str, Any] = pods[0] if pods else {}
    user = {name: value for name, value in pod.get("securityContext", STEP_USER).items() if name != "seccompProfile"}
    return {
        "selector": pod.get("nodeSelector", {}),
        "tolerations": pod.get("tolerations", []),
        "pull_secrets": images.pull_secrets(subject),
        "user": user,
    }
