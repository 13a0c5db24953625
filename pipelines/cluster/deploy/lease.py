"""One deploy at a time: a Lease in the overlay's namespace, as Kubernetes' own controllers hold one."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from components.errors import BusyError, ClusterError
from pipelines.cluster.kubectl import Kubectl, MissingObjectError

NAME = "lorry-deploy"
# A deploy that died holds it for so long.
LEASE_SECONDS = 120
RENEW_SECONDS = 30.0
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@contextmanager
def held_lease(kubectl: Kubectl) -> Iterator[None]:
    """Hold the namespace's Lease and renew it; another process may take one over that is not renewed.

    Raises:
        BusyError: another deploy holds it.
        ClusterError: the cluster refuses.
    """
    holder = f"{os.environ.get('USER') or os.getuid()}@{socket.gethostname()}, process {os.getpid()}"
    _take(kubectl, holder)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(kubectl, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(ClusterError):  # it expires by itself, and the deploy's own result is what counts
            if _held_by(_read(kubectl)) == holder:
                kubectl.run("delete", "lease", NAME, "--ignore-not-found")


def _renew(kubectl: Kubectl, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        spec = {"renewTime": datetime.now(UTC).strftime(_TIME)}
        with suppress(ClusterError):  # the next time may succeed
            kubectl.run("patch", "lease", NAME, "--type=merge", "--patch", json.dumps({"spec": spec}))


def _take(kubectl: Kubectl, holder: str) -> None:
    now = datetime.now(UTC)
    spec = {
        "holderIdentity": holder, "leaseDurationSeconds": LEASE_SECONDS,
        "acquireTime": now.strftime(_TIME), "renewTime": now.strftime(_TIME),
    }  # fmt: skip
    lease: dict[str, Any] = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME}, "spec": spec,
    }  # fmt: skip
    try:
        kubectl.run("create", "--filename=-", given=json.dumps(lease))
        return
    except ClusterError as error:
        if "AlreadyExists" not in str(error):
            raise
    present = _read(kubectl)
    if present is None or _until(present) > now:
        who = "another process" if present is None else _held_by(present)
        since = "" if present is None else f" since {present['spec']['acquireTime'][:19]} UTC"
        raise BusyError(
            f"namespace {kubectl.namespace}: {who} deploys there{since}; wait for it. If it is gone: "
            f"{kubectl.command('delete', 'lease', NAME)}"
        )
    # With its resourceVersion: of two that find it expired, one gets it.
    lease["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
    kubectl.run("replace", "--filename=-", given=json.dumps(lease))


def _read(kubectl: Kubectl) -> dict[str, Any] | None:
    try:
        return dict(kubectl.get("lease", NAME))
    except MissingObjectError:
        return None


def _held_by(lease: dict[str, Any] | None) -> str | None:
    return None if lease is None else lease["spec"].get("holderIdentity")


def _until(lease: dict[str, Any]) -> datetime:
    renewed = datetime.strptime(lease["spec"]["renewTime"], _TIME).replace(tzinfo=UTC)
    return renewed + timedelta(seconds=lease["spec"]["leaseDurationSeconds"])
