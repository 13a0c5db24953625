"""A Deployment's roll-out, read from the objects of one moment: how far it is, what each new pod waits for, and whether
it can still end well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.cluster.pod_reasons import CANNOT_PULL, container_statuses, why_waiting

REVISION = "deployment.kubernetes.io/revision"
# The kubelet's second try comes after 10 s.
PULL_GRACE_SECONDS = 20.0
# On the ReplicaSet of a revision that a deploy has undone.
UNDONE = "lorry/undone"
Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """What keeps a roll-out from its end. ``grace_seconds`` is how long it may still pass by itself; a container whose
    log says why is named with its pod."""

    reason: str
    grace_seconds: float
    pod: str | None = None
    container: str | None = None


@dataclass(frozen=True)
class Rollout:
    """``pods`` has the new pods' names, with what each waits for; None for one that is ready."""

    deployment: str
    revision: str
    n_wanted: int
    n_old: int
    done: bool
    pods: Mapping[str, str | None]
    problem: Problem | None

    @property
    def line(self) -> str:
        """Where it is, in one line."""
        n_ready = sum(reason is None for reason in self.pods.values())
        parts = [f"{n_ready} of {self.n_wanted} new pods ready"]
        parts += [f"{pod}: {reason}" for pod, reason in self.pods.items() if reason is not None]
        if self.n_old:
            parts.append(f"{self.n_old} of before still there")
        return "; ".join(parts)


def rollout_of(deployment: Manifest, replica_sets: Sequence[Manifest], pods: Sequence[Manifest]) -> Rollout:
    """The state of a Deployment's newest roll-out; the others may be of any Deployment of the namespace."""
    metadata, status = deployment["metadata"], deployment.get("status") or {}
    revision = (metadata.get("annotations") or {}).get(REVISION, "")
    wanted = deployment["spec"].get("replicas", 1)
    observed = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    new = [one for one in replica_sets if _owned_by(one, metadata["name"]) and _revision_of(one) == revision]
    names = {one["metadata"]["name"] for one in new} if observed else set()
    new_pods = [pod for pod in pods if any(_owned_by(pod, name) for name in names) and not is_ending(pod)]
    n_updated, n_all = status.get("updatedReplicas", 0), status.get("replicas", 0)
    done = observed and n_updated == n_all == wanted and status.get("availableReplicas", 0) == wanted
    problems = [*_deployment_problems(status if observed else {}), *filter(None, map(_pod_problem, new_pods))]
    return Rollout(
        metadata["name"],
        revision,
        wanted,
        max(0, n_all - n_updated),
        done,
        {pod["metadata"]["name"]: None if is_ready(pod) else _waits_for(pod) for pod in new_pods},
        problems[0] if problems and not done else None,
    )


def revisions_of(deployment: str, replica_sets: Sequence[Manifest]) -> list[int]:
    """The revisions of a Deployment that are kept."""
    return [int(_revision_of(one)) for one in replica_sets if _owned_by(one, deployment) and _revision_of(one)]


def good_revisions_of(deployment: str, replica_sets: Sequence[Manifest]) -> list[int]:
    """Those of them that no deploy has undone."""
    return revisions_of(deployment, [one for one in replica_sets if UNDONE not in _annotations(one)])


def replica_set_of(deployment: str, revision: str, replica_sets: Sequence[Manifest]) -> str | None:
    """The name of the ReplicaSet of a revision."""
    found = [one for one in replica_sets if _owned_by(one, deployment) and _revision_of(one) == revision]
    return str(found[0]["metadata"]["name"]) if found else None


def is_ready(pod: Manifest) -> bool:
    """Whether a pod's readiness probe succeeds."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def restarts_of(pod: Manifest) -> int:
    """How often the containers of a pod were started again."""
    return sum(one.get("restartCount", 0) for one in container_statuses(pod))


def _waits_for(pod: Manifest) -> str:
    if reason := why_waiting(pod):
        return reason
    for container in container_statuses(pod):
        state = container.get("state") or {}
        if "running" in state and not container.get("ready"):
            return f"{container['name']} runs and is not ready yet"
    return "its containers are being set up"


def _deployment_problems(status: Manifest) -> list[Problem]:
    problems = []
    for one in status.get("conditions") or []:
        message = " ".join((one.get("message") or "").split())
        if (one["type"], one["status"]) == ("ReplicaFailure", "True"):
            problems.append(Problem(f"the cluster refuses its pods: {message}", 15))
        if (one["type"], one["status"], one.get("reason")) == ("Progressing", "False", "ProgressDeadlineExceeded"):
            problems.append(Problem(f"no progress for its progressDeadlineSeconds: {message}", 0))
    return problems


def _pod_problem(pod: Manifest) -> Problem | None:
    """A problem that this pod will hardly get over by itself: an image, a crash."""
    name = pod["metadata"]["name"]
    for container in container_statuses(pod):
        state = container.get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason")
        if waiting in CANNOT_PULL:
            may_pass = waiting in ("ErrImagePull", "ImagePullBackOff")
            return Problem(str(why_waiting(pod)), PULL_GRACE_SECONDS if may_pass else 0)
        # A first crash may be of the moment, such as a store that restarts: the second counts.
        ended = _last_end(container)
        if (
            ended is not None
            and ended.get("exitCode")
            and container.get("restartCount", 0) + ("terminated" in state) > 1
        ):
            how = "was killed for lack of memory" if ended.get("reason") == "OOMKilled" else "ended twice"
            why = f"its container {container['name']} {how} (exit code {ended['exitCode']})"
            return Problem(why, 0, name, container["name"])
    return None


def _last_end(container: Manifest) -> Mapping[str, Any] | None:
    for state in (container.get("state"), container.get("lastState")):
        if ended := (state or {}).get("terminated"):
            return dict(ended)
    return None


def _revision_of(replica_set: Manifest) -> str:
    return str(_annotations(replica_set).get(REVISION, ""))


def _annotations(item: Manifest) -> Mapping[str, str]:
    return item["metadata"].get("annotations") or {}


def _owned_by(item: Manifest, name: str) -> bool:
    return any(owner["name"] == name for owner in item["metadata"].get("ownerReferences") or [])


def is_ending(pod: Manifest) -> bool:
    """Whether a pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]
