"""The cluster that KUBECONFIG names, through kubectl, in one namespace."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

from tests.conftest import free_port

Manifest = dict[str, Any]
LABELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


class Cluster:
    """One namespace that enforces "restricted"; what is made in it goes with it."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What ``kubectl ARGUMENTS`` prints."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        assert "would violate PodSecurity" not in done.stderr, done.stderr
        return done.stdout

    @contextmanager
    def made(self) -> Iterator[Cluster]:
        """Make the namespace, and delete it at the end."""
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": LABELS}}])
        try:
            yield self
        finally:
            subprocess.run(["kubectl", "delete", "namespace", self.namespace, "--timeout=180s"], check=True)

    def apply(self, objects: Sequence[Manifest]) -> None:
        """Create or change objects."""
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *what: str) -> Any:
        """An object, or a list of them."""
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def finish(self, job: Manifest, seconds: int = 600) -> str:
        """Run a Job to its end, which must be a good one; give its log."""
        name = job["metadata"]["name"]
        self.apply([job])

        def ended() -> bool:
            status = self.get("job", name)["status"]
            assert not status.get("failed"), self.log_of(f"job/{name}")
            return bool(status.get("succeeded"))

        until(ended, seconds, lambda: self.kubectl("describe", "pods", "--selector", f"job-name={name}"))
        return self.log_of(f"job/{name}")

    def log_of(self, what: str) -> str:
        """The whole log of a pod, of the first one of a Job."""
        return self.kubectl("logs", what, "--all-containers", "--tail=-1")

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """An address of this machine that leads to a Service."""
        local = free_port()
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{service}", f"{local}:{port}"]
        address = f"http://127.0.0.1:{local}"
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as forward:
            try:
                until(lambda: _answers(address), 30, lambda: "the port-forward does not answer")
                yield address
            finally:
                forward.terminate()


def until(ready: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Wait until ``ready``; ``why`` tells what stands in the way when it takes too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, why()
        time.sleep(0.5)


def _answers(address: str) -> bool:
    try:
        httpx.get(address, timeout=5)
    except httpx.TransportError:
        return False
    return True


def load_yaml(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(YAML(typ="safe", pure=True).load_all(path.read_text()))


def storage_class() -> dict[str, str]:
    """The class that tests ask for: LORRY_TEST_STORAGE_CLASS, or the cluster's default."""
    name = os.environ.get("LORRY_TEST_STORAGE_CLASS")
    return {"storageClassName": name} if name else {}
