"""Why a pod does not run yet, from its object as the cluster gives it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
CRASHES = "CrashLoopBackOff"
# The kubelet gives the same reason with and without these words, in turns.
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*":? ?(ErrImagePull: )?')
# A container that is about to start waits for one of these.
STARTING = ("ContainerCreating", "PodInitializing")
Pod = Mapping[str, Any]


def container_statuses(pod: Pod) -> Iterator[Mapping[str, Any]]:
    """The states of its containers, those of its init containers first."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def why_unscheduled(pod: Pod) -> str | None:
    """Why no node takes it; None for a pod that has one."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if (condition["type"], condition["status"]) == ("PodScheduled", "False") and condition.get("message"):
            return f"no node takes its pod: {' '.join(condition['message'].split())}"
    return None


def why_waiting(pod: Pod) -> str | None:
    """Why a pod does not start: no node, an image that cannot be pulled, a container that cannot be made; or None."""
    if unscheduled := why_unscheduled(pod):
        return unscheduled
    for container in container_statuses(pod):
        state = (container.get("state") or {}).get("waiting") or {}
        reason, message = state.get("reason"), " ".join((state.get("message") or "").split())
        if reason in CANNOT_PULL:
            return cannot_pull(container["image"], message or reason)
        if reason and reason not in STARTING:
            return f"its container does not start: {reason}: {message}"
    return None


def cannot_pull(image: str, message: str) -> str:
    """The reason for an image that cannot be pulled, with what to do."""
    why = _BACK_OFF.sub("", message)[:200]
    return (
        f"its image {image} cannot be pulled ({why}); build and push it with: "
        "make images PUSH=1, LORRY_REGISTRY being where the cluster pulls from"
    )
