"""A volume listed and cleaned by a Kubernetes Job in the data image: only pods reach it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from components.collect_garbage.command import RESULT
from components.errors import BusyError, ClusterError, StoreError
from pipelines.cluster.kubectl import ForbiddenError, Kubectl, MissingObjectError
from pipelines.cluster.pod_reasons import why_waiting
from pipelines.cluster.restricted_pod import CONTAINER_SECURITY
from pipelines.config.addresses import VOLUMES
from pipelines.graph.placement import USER

SECONDS_TO_START = 300.0
# An image that is missing does not come by waiting, nor room in a quota; a registry that is busy for a moment does.
SECONDS_TO_PULL = 45.0
REFUSED = "the cluster refuses its pod"
_NAME_OF_POD = re.compile(r'^Error creating: (pods "[^"]*" is forbidden: )?')
SECONDS_TO_RUN = 3600


@dataclass(frozen=True)
class VolumeJob:
    """The Job of one claim; its name is the claim's, so that two never run at once."""

    kubectl: Kubectl
    claim: str
    folder: str
    image: str
    look_seconds: float = 1.0
    start_seconds: float = SECONDS_TO_START

    @property
    def name(self) -> str:
        """The Job's name, which Kubernetes limits to 63 characters."""
        return f"lorry-gc-{self.claim}"[:63].rstrip("-.")

    @property
    def address(self) -> str:
        """The address that the folder has for a user."""
        return f"pvc://{self.claim}" + (f"/{self.folder}" if self.folder else "")

    @property
    def mount_path(self) -> str:
        """Where the pod has the folder."""
        return f"{VOLUMES}/{self.claim}" + (f"/{self.folder}" if self.folder else "")

    def run(self, arguments: Sequence[str], report: Callable[[str], None]) -> Iterator[str]:
        """Run the program on the volume, and give its results; without ``arguments`` it lists, and mounts read-only.

        Raises:
            BusyError: a Job of this claim is there already.
            StoreError: the program's own error.
            ClusterError: the claim is missing, the pod does not start, or the cluster refuses.
        """
        require_claim(self.kubectl, self.claim)
        with self._job(arguments):
            succeeded = self._wait(report)
            log = self.kubectl.run("logs", f"job/{self.name}", "--tail=-1")
        results = [line.removeprefix(RESULT) for line in log.splitlines() if line.startswith(RESULT)]
        yield from results
        if not succeeded:
            own = [line for line in log.splitlines() if line.strip() and not line.startswith(RESULT)]
            message = own[-1].removeprefix("error: ") if own else f"{self.address}: its pod left no log"
            raise StoreError(message.replace(self.mount_path, self.address))

    def commands(self, arguments: Sequence[str]) -> list[str]:
        """What a person types in place of ``run``."""
        document = json.dumps(self.manifest(arguments), indent=1)
        return [
            f"{self.kubectl.command('create', '-f', '-')} <<'END'\n{document}\nEND",
            self.kubectl.command("wait", "--for=condition=complete", f"job/{self.name}", "--timeout=300s"),
            self.kubectl.command("logs", f"job/{self.name}", "--tail=-1"),
            self.kubectl.command("delete", "job", self.name),
        ]

    def manifest(self, arguments: Sequence[str]) -> dict[str, Any]:
        """The Job. Its pod passes the Pod Security Standard "restricted"."""
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/part-of": "lorry"}},
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": SECONDS_TO_RUN,
                # Deleted by then if this program did not come to it.
                "ttlSecondsAfterFinished": SECONDS_TO_RUN,
                "template": {
                    # A mesh's sidecar would keep the Job from ending.
                    "metadata": {"labels": {"sidecar.istio.io/inject": "false"}},
                    "spec": self._pod(arguments),
                },
            },
        }

    def _pod(self, arguments: Sequence[str]) -> dict[str, Any]:
        read_only = not arguments
        mount = {"name": "volume", "mountPath": f"{VOLUMES}/{self.claim}", "readOnly": read_only}
        return {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "gc",
                    "image": self.image,
                    "command": ["python3", "-m", "components.collect_garbage", self.mount_path, *arguments],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                    "securityContext": CONTAINER_SECURITY,
                    "volumeMounts": [mount, {"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "volumes": [
                {"name": "volume", "persistentVolumeClaim": {"claimName": self.claim}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
        }  # fmt: skip

    @contextmanager
    def _job(self, arguments: Sequence[str]) -> Iterator[None]:
        """Create the Job, and delete it when the context ends, however it ends."""
        try:
            self.kubectl.run("create", "-f", "-", given=json.dumps(self.manifest(arguments)))
        except ClusterError as error:
            if "AlreadyExists" not in str(error):
                raise
            delete = self.kubectl.command("delete", "job", self.name)
            raise BusyError(
                f"{self.address}: another lorry gc is at work there (job {self.name}); wait until it has ended, or "
                f"delete the job if it was left behind: {delete}"
            ) from None
        try:
            yield
        finally:
            self.kubectl.run("delete", "job", self.name, "--ignore-not-found")

    def _wait(self, report: Callable[[str], None]) -> bool:
        """Wait until the Job has ended, and give whether it succeeded; ``report`` gets why its pod does not start."""
        begun, reason, reported = time.monotonic(), "its pod is not there yet", ""
        while True:
            job = self.kubectl.get("job", self.name)
            ended = {one["type"] for one in job.get("status", {}).get("conditions", []) if one["status"] == "True"}
            if ended & {"Complete", "Failed"}:
                return "Complete" in ended
            if waiting := self._waiting(job.get("metadata", {}).get("uid", "")):
                reason = waiting
                if waiting != reported:
                    report(f"{self.address}: {waiting}")
                    reported = waiting
                is_permanent = "cannot be pulled" in reason or reason.startswith(REFUSED)
                limit = min(self.start_seconds, SECONDS_TO_PULL) if is_permanent else self.start_seconds
                if time.monotonic() - begun > limit:
                    raise ClusterError(
                        f"{self.address}: the pod of job {self.name} did not start in {limit:.0f} s: {reason}; nothing "
                        "was deleted"
                    )
            time.sleep(self.look_seconds)

    def _waiting(self, uid: str) -> str | None:
        """Why the pod of the Job with an id has not started; None where it has."""
        pods = self.kubectl.get("pods", f"--selector=job-name={self.name}")["items"]
        for pod in pods:
            if pod.get("status", {}).get("phase") != "Pending":
                return None
            if reason := why_waiting(pod):
                return reason
        return "its pod is being set up" if pods else self._why_refused(uid) or "its pod is not there yet"

    def _why_refused(self, uid: str) -> str | None:
        """Why the cluster makes no pod for the Job, such as a quota; None where no event says so."""
        # By the id: events of an earlier Job of this name are kept for an hour.
        selector = f"--field-selector=involvedObject.uid={uid},reason=FailedCreate"
        try:
            events = self.kubectl.get("events", selector)["items"]
        except ForbiddenError:
            return None
        return f"{REFUSED}: {_NAME_OF_POD.sub('', events[-1]['message'])}" if events else None


def require_claim(kubectl: Kubectl, claim: str) -> None:
    """Check that a claim is there.

    Raises:
        ClusterError: it is not, or the cluster refuses.
    """
    try:
        kubectl.get("persistentvolumeclaim", claim)
    except MissingObjectError:
        listing = kubectl.command("get", "persistentvolumeclaims")
        raise ClusterError(
            f"pvc://{claim}: the namespace {kubectl.namespace} has no such claim; see {listing}, or give --namespace"
        ) from None
