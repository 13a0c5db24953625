"""A probe's pod: it passes the Pod Security Standard "restricted", asks for little and ends by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.cluster.overlay import Manifest
from pipelines.cluster.restricted_pod import CONTAINER_SECURITY
from pipelines.graph.placement import USER

LABEL = "lorry-doctor"
POLICY_LABEL = "lorry-doctor-policy"
VOLUMES = "/volumes"
# Of a pull: an image with CUDA is several gigabytes.
SECONDS_TO_END = 600
RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}}
STEP_USER: Mapping[str, Any] = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER}


@dataclass(frozen=True)
class ProbePod:
    """What one pod does: ``script`` is Python, with ``arguments`` in its ``sys.argv``."""

    name: str
    namespace: str
    image: str
    script: str
    arguments: Sequence[str] = ()
    secret: str | None = None
    claims: Sequence[str] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    pull_secrets: Sequence[str] = ()
    user: Mapping[str, Any] = field(default_factory=lambda: STEP_USER)
    is_closed: bool = False

    def manifest(self, pod_name: str, visit: str) -> Manifest:
        """The pod, with the label of this visit."""
        labels = {
            "app.kubernetes.io/name": LABEL,
            "app.kubernetes.io/part-of": "lorry",
            "sidecar.istio.io/inject": "false",
            LABEL: visit,
        }
        if self.is_closed:
            labels[POLICY_LABEL] = visit
        spec = {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": SECONDS_TO_END,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {**self.user, "seccompProfile": {"type": "RuntimeDefault"}},
            "nodeSelector": dict(self.selector),
            "tolerations": list(self.tolerations),
            "imagePullSecrets": [{"name": name} for name in self.pull_secrets],
            "containers": [self._container()],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}, *map(_volume, self.claims)],
        }
        metadata = {"name": pod_name, "namespace": self.namespace, "labels": labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _container(self) -> Manifest:
        mounts = [{"name": name, "mountPath": f"{VOLUMES}/{name}"} for name in self.claims]
        return {
            "name": "probe",
            "image": self.image,
            "command": ["python3", "-c", self.script, *self.arguments],
            "envFrom": [{"secretRef": {"name": self.secret, "optional": True}}] if self.secret else [],
            "resources": RESOURCES,
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],
        }


def _volume(claim: str) -> Manifest:
    return {"name": claim, "persistentVolumeClaim": {"claimName": claim}}


def policy(namespace: str, visit: str) -> Manifest:
    """A NetworkPolicy that forbids the closed pod of a visit to reach anything."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{LABEL}-{visit}", "namespace": namespace, "labels": {LABEL: visit}},
        "spec": {"podSelector": {"matchLabels": {POLICY_LABEL: visit}}, "policyTypes": ["Egress"], "egress": []},
    }
