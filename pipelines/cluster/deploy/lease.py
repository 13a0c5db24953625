"""One deploy at a time: a Lease in the overlay's namespace, as Kubernetes' own controllers hold one."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from components.errors import BusyError, ClusterError
from pipelines.cluster.kubectl import Kubectl, MissingObjectError

NAME = "lorry-deploy"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@contextmanager
def held_lease(kubectl: Kubectl, seconds: int) -> Iterator[None]:
    """Hold the namespace's Lease; another process may take it over after ``seconds``.

    Raises:
        BusyError: another deploy holds it.
        ClusterError: the cluster refuses.
    """
    holder = f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"
    _take(kubectl, holder, seconds)
    try:
        yield
    finally:
        try:
            if _held_by(_read(kubectl)) == holder:
                kubectl.run("delete", "lease", NAME, "--ignore-not-found")
        except ClusterError:
            pass  # it ends by itself, and the deploy's own result is what counts


def _take(kubectl: Kubectl, holder: str, seconds: int) -> None:
    now = datetime.now(UTC)
    spec = {
        "holderIdentity": holder, "leaseDurationSeconds": seconds,
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
