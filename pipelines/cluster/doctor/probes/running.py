"""Starting the probes' pods, waiting until each has ended or cannot, and deleting them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from components.errors import ClusterError
from components.runtime.interrupts import interrupt_on_sigterm
from pipelines.cluster.doctor.probes.pod import LABEL, SECONDS_TO_END, ProbePod, policy
from pipelines.cluster.doctor.subject import Outcome
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import Manifest
from pipelines.cluster.pod_reasons import CANNOT_PULL, STARTING, why_unscheduled

SECONDS_BETWEEN_LOOKS = 1.0
# An autoscaler may add a node later; the doctor does not wait for it.
SECONDS_FOR_A_NODE = 20
Report = Callable[[str], None]


def run_pods(kubectl: Kubectl, probes: Sequence[ProbePod], report: Report) -> dict[str, Outcome]:
    """Run every probe and give its outcome by its name.

    Raises:
        ClusterError: the cluster no longer answers.
    """
    visit = secrets.token_hex(4)
    namespaces = list(dict.fromkeys(one.namespace for one in probes))
    report(f"probing with {len(probes)} pods in {', '.join(namespaces)}")
    with interrupt_on_sigterm(), _deleted_at_the_end(kubectl, namespaces, visit):
        names = {f"{LABEL}-{visit}-{number}": one for number, one in enumerate(probes)}
        outcomes = dict(_start(kubectl, names, visit))
        waiting = {name: one for name, one in names.items() if one.name not in outcomes}
        outcomes.update(_wait(kubectl, waiting, namespaces, visit, report))
    return outcomes


def _start(kubectl: Kubectl, names: dict[str, ProbePod], visit: str) -> Iterator[tuple[str, Outcome]]:
    """Create the pods; give the outcome of those that the cluster refuses."""
    for namespace in {one.namespace for one in names.values() if one.is_closed}:
        try:
            kubectl.run("create", "-f", "-", given=json.dumps(policy(namespace, visit)))
        except ClusterError as error:
            yield from ((one.name, Outcome("refused", reason=str(error))) for one in names.values() if one.is_closed)
            names = {name: one for name, one in names.items() if not one.is_closed}
    for name, one in names.items():
        try:
            kubectl.run("create", "-f", "-", given=json.dumps(one.manifest(name, visit)))
        except ClusterError as error:
            yield one.name, Outcome("refused", reason=str(error))


@contextmanager
def _deleted_at_the_end(kubectl: Kubectl, namespaces: Iterable[str], visit: str) -> Iterator[None]:
    try:
        yield
    finally:
        for namespace in namespaces:
            kubectl.in_namespace(namespace).run(
                "delete", "pods,networkpolicies", f"--selector={LABEL}={visit}", "--wait=false", "--ignore-not-found"
            )


def _wait(
    kubectl: Kubectl, waiting: dict[str, ProbePod], namespaces: Sequence[str], visit: str, report: Report
) -> Iterator[tuple[str, Outcome]]:
    began, number = time.monotonic(), len(waiting)
    while waiting:
        seconds = time.monotonic() - began
        before = len(waiting)
        for pod in _pods(kubectl, namespaces, visit):
            name = pod["metadata"]["name"]
            if name in waiting and (outcome := _outcome(kubectl, pod, seconds)):
                yield waiting.pop(name).name, outcome
        if len(waiting) < before:
            left = f"; waiting for {', '.join(one.name for one in waiting.values())}" if 0 < len(waiting) < 4 else ""
            report(f"{number - len(waiting)} of {number} probes have ended{left}")
        if waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _pods(kubectl: Kubectl, namespaces: Iterable[str], visit: str) -> Iterator[Manifest]:
    for namespace in namespaces:
        yield from kubectl.in_namespace(namespace).get("pods", f"--selector={LABEL}={visit}")["items"]


def _outcome(kubectl: Kubectl, pod: Manifest, seconds: float) -> Outcome | None:
    """How a pod ended; None while it may still end."""
    phase, name = pod["status"].get("phase"), pod["metadata"]["name"]
    here = kubectl.in_namespace(pod["metadata"]["namespace"])
    if phase in ("Succeeded", "Failed"):
        log = here.run("logs", name, "--tail=20", succeeds_with=(0, 1)).strip()
        reason = pod["status"].get("message") or (log.splitlines() or ["it failed without a word"])[-1]
        return Outcome("succeeded" if phase == "Succeeded" else "failed", log, "" if phase == "Succeeded" else reason)
    if (unscheduled := why_unscheduled(pod)) and seconds > SECONDS_FOR_A_NODE:
        return Outcome("unplaced", reason=unscheduled)
    for container in pod["status"].get("containerStatuses") or []:
        waits = container["state"].get("waiting") or {}
        message = " ".join((waits.get("message") or "").split())[:300]
        if waits.get("reason") == "ErrImagePull":
            return None  # the first try: it may be of the moment
        if waits.get("reason") in CANNOT_PULL:
            return Outcome("unpulled", reason=f"cannot be pulled ({message or waits['reason']})")
        if waits.get("reason") and waits["reason"] not in STARTING:
            return Outcome("refused", reason=f"{waits['reason']}: {message}")
    if seconds > SECONDS_TO_END:
        return Outcome("late", reason=f"its pod has not ended in {SECONDS_TO_END} s; {_last_warning(here, name)}")
    return None


def _last_warning(kubectl: Kubectl, pod: str) -> str:
    events = kubectl.get("events", f"--field-selector=involvedObject.name={pod},type=Warning")["items"]
    return " ".join(str(events[-1]["message"]).split())[:300] if events else "no event says why"
