"""Whether new images can be pulled, for Deployments whose old pod stops before the new one starts."""

from __future__ import annotations

import json
import time
from typing import Any

from components.errors import ClusterError
from pipelines.cluster.deploy.snapshot import Report, Snapshot
from pipelines.cluster.deploy.workloads import deployment_of, workloads_of
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import Overlay
from pipelines.cluster.pod_reasons import CANNOT_PULL, container_statuses, why_waiting

SECONDS_TO_PULL = 300
SECONDS_BETWEEN = 1.0


def require_images(overlay: Overlay, before: Snapshot, kubectl: Kubectl, report: Report) -> None:
    """Pull each new image of a Deployment of strategy Recreate in a pod of its own that ends at once.

    The page is such a Deployment: with an image that cannot be pulled it would be down until somebody undoes it.

    Raises:
        ClusterError: an image cannot be pulled; nothing has changed yet.
    """
    for workload in workloads_of(overlay):
        present = before.workload(workload.name)
        if not workload.recreates or present is None:
            continue
        for image in sorted(set(workload.images.values()) - set(present.images.values())):
            report(f"{workload.name}: pulling {image} before the old pod stops")
            _pull(kubectl, _probe_pod(deployment_of(overlay, workload.name), image))


def _probe_pod(deployment: dict[str, Any], image: str) -> dict[str, Any]:
    """A pod of the Deployment's own kind and nodes, without its volumes; no Service selects it."""
    template = deployment["spec"]["template"]["spec"]
    kept = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "securityContext", "serviceAccountName")
    container = {
        "name": "probe",
        "image": image,
        "command": ["/bin/true"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
        "securityContext": template["containers"][0].get("securityContext") or {},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{deployment['metadata']['name']}-image-probe-"},
        "spec": {
            **{key: template[key] for key in kept if key in template},
            "containers": [container],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
        },
    }


def _pull(kubectl: Kubectl, pod: dict[str, Any]) -> None:
    name = json.loads(kubectl.run("create", "--filename=-", "--output=json", given=json.dumps(pod)))["metadata"]["name"]
    began = time.monotonic()
    try:
        while True:
            found = kubectl.get("pod", name)
            states = [one.get("state") or {} for one in container_statuses(found)]
            if any("running" in state or "terminated" in state for state in states):
                return
            waits = {(state.get("waiting") or {}).get("reason") for state in states}
            # ErrImagePull comes first and may be of the moment; after the second try it is one of the others.
            if waits & {*CANNOT_PULL} - {"ErrImagePull"}:
                raise ClusterError(f"{why_waiting(found)}. Nothing was changed")
            if time.monotonic() - began > SECONDS_TO_PULL:
                raise ClusterError(
                    f"image {pod['spec']['containers'][0]['image']}: not pulled after {SECONDS_TO_PULL} s "
                    f"({why_waiting(found) or 'still pulling'}). Nothing was changed"
                )
            time.sleep(SECONDS_BETWEEN)
    finally:
        kubectl.run("delete", "pod", name, "--ignore-not-found", "--wait=false")
