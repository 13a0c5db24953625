"""Reasons of pods that do not start, read through a kubeconfig."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.pods import RunPods
from tests.conftest import run_lorry
from tests.pipelines.cluster.kubeflow_stand_in import RUN_ID, StandIn, kubeflow

NODE = "finetune-hrpf2(0).root(0).train-lora(0).executor(1)"
WAITING_PODS = {
    "no node takes its pod: 0/1 nodes are available: 1 Insufficient cpu.": {
        "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}
        ]
    },
    "its image lorry/train:1 cannot be pulled (no such host); build and push it with: make images PUSH=1": {
        "containerStatuses": [
            {"name": "main", "image": "lorry/train:1", "imageID": "", "ready": False, "restartCount": 0,
             "state": {"waiting": {"reason": "ImagePullBackOff",
                                   "message": 'Back-off pulling image "lorry/train:1": ErrImagePull: no such host'}}}
        ]
    },
    "its container does not start: CreateContainerConfigError: secret lorry-store not found": {
        "containerStatuses": [
            {"name": "main", "image": "lorry/train:1", "imageID": "", "ready": False, "restartCount": 0,
             "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret lorry-store not found"}}}
        ]
    },
    "MountVolume.SetUp failed: no such claim": {},
}  # fmt: skip


def a_cluster(folder: Path, pods: list[dict[str, Any]]) -> tuple[HTTPServer, Path]:
    """An API server of Kubernetes that has these pods, and a kubeconfig that leads to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            event = {
                "metadata": {"name": "e"},
                "involvedObject": {},
                "message": "MountVolume.SetUp failed: no such claim",
            }
            is_pods = self.path.startswith("/api/v1/namespaces/kubeflow/pods")
            items = [pod for pod in pods if f"runid%3D{RUN_ID}" in self.path] if is_pods else [event]
            content = json.dumps({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
    context = {"name": "here", "context": {"cluster": "c", "user": "u"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [context],
        "current-context": "here",
    }
    kubeconfig.write_text(json.dumps({**document, "users": [{"name": "u", "user": {}}]}))
    return server, kubeconfig


def a_pod(phase: str, **status: Any) -> dict[str, Any]:
    annotations = {"workflows.argoproj.io/node-name": NODE}
    container = {"name": "main", "resources": {"limits": {"memory": "12Gi"}}}
    return {
        "metadata": {"name": "pod", "annotations": annotations},
        "spec": {"containers": [container]},
        "status": {"phase": phase, **status},
    }


@pytest.mark.parametrize("reason", WAITING_PODS)
def test_a_kubeconfig_says_why_a_pod_does_not_start(reason, tmp_path, monkeypatch):
    server, kubeconfig = a_cluster(tmp_path, [a_pod("Pending", **WAITING_PODS[reason])])
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    try:
        found = RunPods(None, "kubeflow", RUN_ID).reasons()
        assert RunPods(None, "kubeflow", "another-run").reasons() is None
    finally:
        server.shutdown()
        server.server_close()
    assert found is not None
    assert found[NODE].startswith(reason)


def test_a_container_without_memory_is_said_with_its_limit(tmp_path, monkeypatch):
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    status = {
        "name": "main",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    server, kubeconfig = a_cluster(tmp_path, [a_pod("Failed", containerStatuses=[status])])
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    try:
        pods = RunPods(None, "kubeflow", RUN_ID)
        said = pods.out_of_memory(NODE)
        assert pods.out_of_memory("another node") is None
    finally:
        server.shutdown()
        server.server_close()
    assert said is not None
    assert said.startswith("out of memory: its container was killed at 12Gi; give the pool more (placement.pools.NAME")


def test_a_context_that_is_not_there_is_told(tmp_path):
    with kubeflow(StandIn([])) as server:
        done = run_lorry("runs", "follow", RUN_ID, "--endpoint", server.url, "--context", "nowhere", HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: --context nowhere: ")
    assert "see kubectl config get-contexts" in done.stderr
