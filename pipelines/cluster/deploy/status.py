"""What an overlay pins, what runs of it on the cluster, and what answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import LorryError
from pipelines.cluster.deploy.ask import Answer, KeyRequiredError, ask_server
from pipelines.cluster.deploy.rollout import is_ending, is_ready, restarts_of
from pipelines.cluster.deploy.snapshot import Snapshot
from pipelines.cluster.deploy.workloads import MODEL_ANNOTATION, Workload, deployment_of, service_of, workloads_of
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import Overlay, containers_of, load_overlay

NO_ANSWER = "does not answer"
NOT_AS_ITS_PROOF = "not as its proof"


@dataclass(frozen=True)
class WorkloadStatus:
    """``running`` counts its ready pods by what they serve: a model's sha256, or an image for the page. ``problem`` is
    why it is not as pinned; ``tokens_per_second`` is one greedy answer of one client, the network included."""

    name: str
    pinned: str
    running: dict[str, int]
    wanted: int
    revision: str
    restarts: int
    model_name: str | None
    answers: str
    tokens_per_second: float | None
    problem: str | None


def status_of(folder: Path, kubectl: Kubectl, *, ask: bool = True) -> list[WorkloadStatus]:
    """One row for each Deployment of an overlay; ``ask``: its model servers are asked for their proof answer.

    Raises:
        RecipeError: the folder is no overlay of Lorry's.
        ClusterError: the cluster refuses or does not answer.
    """
    overlay = load_overlay(kubectl, folder)
    here = kubectl.in_namespace(overlay.namespace)
    snapshot = Snapshot.read(here)
    return [_status(overlay, one, snapshot, here, ask) for one in workloads_of(overlay)]


def _status(overlay: Overlay, workload: Workload, snapshot: Snapshot, kubectl: Kubectl, ask: bool) -> WorkloadStatus:
    pinned = workload.model or ", ".join(sorted(set(workload.images.values())))
    if workload.name not in snapshot.deployments:
        return WorkloadStatus(
            workload.name, pinned, {}, 0, "", 0, None, "", None, f"not on the cluster; lorry deploy {overlay.folder}"
        )
    rollout = snapshot.rollout(workload.name)
    # One that ends is still ready for some seconds.
    pods = [pod for pod in snapshot.pods if _selected(pod, overlay, workload) and not is_ending(pod)]
    ready = [pod for pod in pods if is_ready(pod)]
    running = Counter(_serves(pod) for pod in ready)
    answer, explanation = (
        _answer(overlay, workload, kubectl) if ask and workload.serves_a_model and ready else (None, "")
    )
    problem = rollout.problem.reason if rollout.problem else None
    if problem is None and not rollout.done:
        problem = rollout.line
    other_images = any(_images_of(pod) != set(workload.images.values()) for pod in ready)
    if problem is None and (set(running) != {pinned} or other_images):
        problem = f"what runs is not what {overlay.folder} pins; lorry deploy {overlay.folder}"
    if problem is None and (explanation == NOT_AS_ITS_PROOF or explanation.startswith(NO_ANSWER)):
        problem = explanation
    return WorkloadStatus(
        workload.name,
        pinned,
        dict(running),
        rollout.n_wanted,
        rollout.revision,
        sum(map(restarts_of, pods)),
        None if answer is None else answer.name,
        explanation,
        None if answer is None else answer.tokens_per_second,
        problem,
    )


def _answer(overlay: Overlay, workload: Workload, kubectl: Kubectl) -> tuple[Answer | None, str]:
    try:
        answer = ask_server(kubectl, f"service/{service_of(overlay, workload.name)}")
    except KeyRequiredError as error:
        return None, f"not asked: {error}"
    except LorryError as error:
        return None, f"{NO_ANSWER}: {error}"
    return answer, {True: "as its proof", False: NOT_AS_ITS_PROOF, None: "yes"}[answer.comparison.agrees]


def _selected(pod: Mapping[str, Any], overlay: Overlay, workload: Workload) -> bool:
    labels: dict[str, str] = pod["metadata"].get("labels", {})
    selector = deployment_of(overlay, workload.name)["spec"]["selector"]["matchLabels"]
    return bool(selector.items() <= labels.items())


def _serves(pod: Mapping[str, Any]) -> str:
    model = (pod["metadata"].get("annotations") or {}).get(MODEL_ANNOTATION)
    return str(model or ", ".join(sorted(_images_of(pod))))


def _images_of(pod: Mapping[str, Any]) -> set[str]:
    return {one["image"] for one in containers_of(pod["spec"])}
