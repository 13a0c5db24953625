"""The objects of a namespace at one moment, and the waiting for its roll-outs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import ClusterError
from pipelines.cluster.deploy.rollout import Problem, Rollout, replica_set_of, rollout_of
from pipelines.cluster.deploy.workloads import Workload
from pipelines.cluster.kubectl import ForbiddenError, Kubectl

SECONDS_BETWEEN = 2.0
# An API server that restarts, a laptop that changes its network: no reason to take a roll-out back.
SECONDS_WITHOUT_ANSWER = 60.0
LOG_LINES = 5
Report = Callable[[str], None]


class RolloutFailedError(ClusterError):
    """A roll-out does not end well; the message says why."""


@dataclass(frozen=True)
class Snapshot:
    """The Deployments of a namespace by name, its ReplicaSets and its pods."""

    deployments: Mapping[str, dict[str, Any]]
    replica_sets: list[dict[str, Any]]
    pods: list[dict[str, Any]]

    @classmethod
    def read(cls, kubectl: Kubectl) -> Snapshot:
        """What the namespace has now.

        Raises:
            ClusterError: it cannot be read.
        """
        items = kubectl.get("deployments,replicasets,pods")["items"]
        by_kind: dict[str, list[dict[str, Any]]] = {"Deployment": [], "ReplicaSet": [], "Pod": []}
        for item in items:
            by_kind[item["kind"]].append(item)
        deployments = {one["metadata"]["name"]: one for one in by_kind["Deployment"]}
        return cls(deployments, by_kind["ReplicaSet"], by_kind["Pod"])

    def workload(self, name: str) -> Workload | None:
        """A Deployment as it is on the cluster; None where there is none."""
        return Workload.of(self.deployments[name]) if name in self.deployments else None

    def rollout(self, name: str) -> Rollout:
        """The state of a Deployment's roll-out.

        Raises:
            ClusterError: the namespace has no such Deployment.
        """
        if name not in self.deployments:
            known = ", ".join(sorted(self.deployments)) or "none"
            raise ClusterError(f"no Deployment {name!r} in the namespace; it has {known}")
        return rollout_of(self.deployments[name], self.replica_sets, self.pods)

    def replica_set(self, name: str) -> str | None:
        """The ReplicaSet of a Deployment's revision."""
        return replica_set_of(name, self.rollout(name).revision, self.replica_sets)

    def revision(self, name: str) -> str | None:
        """The revision of a Deployment's pods; None where there is no such Deployment."""
        return self.rollout(name).revision if name in self.deployments else None


def follow(kubectl: Kubectl, names: list[str], seconds: float, report: Report) -> Snapshot:
    """Wait until the Deployments' roll-outs have ended, and report each change; give the last state.

    Raises:
        RolloutFailedError: one cannot end well, or has not after ``seconds``.
        ClusterError: the cluster does not answer.
    """
    began = time.monotonic()
    reported: dict[str, str] = {}
    first_seen: dict[Problem, float] = {}
    while True:
        snapshot = _read_patiently(kubectl, report)
        rollouts = [snapshot.rollout(name) for name in names]
        now = time.monotonic()
        for rollout in rollouts:
            line = "rolled out" if rollout.done else rollout.line
            if reported.get(rollout.deployment) != line:
                reported[rollout.deployment] = line
                report(f"{rollout.deployment}: {line}")
            if rollout.problem and now - first_seen.setdefault(rollout.problem, now) >= rollout.problem.grace_seconds:
                raise RolloutFailedError(f"{rollout.deployment}: {_explained(kubectl, rollout.problem)}")
        if all(rollout.done for rollout in rollouts):
            return snapshot
        if now - began > seconds:
            lines = "; ".join(f"{one.deployment}: {one.line}" for one in rollouts if not one.done)
            raise RolloutFailedError(f"not rolled out after {seconds:.0f} s: {lines}")
        time.sleep(SECONDS_BETWEEN)


def _read_patiently(kubectl: Kubectl, report: Report) -> Snapshot:
    began = time.monotonic()
    while True:
        try:
            return Snapshot.read(kubectl)
        except ForbiddenError:
            raise
        except ClusterError as error:
            if time.monotonic() - began > SECONDS_WITHOUT_ANSWER:
                raise
            report(f"no answer, asked again: {error}")
            time.sleep(SECONDS_BETWEEN)


def _explained(kubectl: Kubectl, problem: Problem) -> str:
    """Its reason, with the last lines of the container's log."""
    if problem.pod is None or problem.container is None:
        return problem.reason
    for previous in (("--previous",), ()):
        try:
            log = kubectl.run("logs", problem.pod, f"--container={problem.container}", f"--tail={LOG_LINES}", *previous)
        except ClusterError:
            continue
        if log.strip():
            return f"{problem.reason}; its log ends with:\n" + "\n".join(f"  {line}" for line in log.splitlines())
    return problem.reason
