"""The real kubectl against a cluster that is not there, and one that refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.errors import ClusterError
from pipelines.cluster.kubectl import ForbiddenError, Kubectl, MissingObjectError
from tests.conftest import free_port

FORBIDDEN = 'nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope'
IN_NAMESPACE = 'pods is forbidden: User "jane" cannot create resource "pods" in API group "" in the namespace "lorry"'
ANSWERS = {
    "/api/v1/nodes": (403, "Forbidden", FORBIDDEN),
    "/api/v1/namespaces/lorry/pods": (403, "Forbidden", IN_NAMESPACE),
    "/api/v1/namespaces/lorry/services/chat": (404, "NotFound", 'services "chat" not found'),
    "/api/v1/namespaces/lorry/services/login": (401, "Unauthorized", "Unauthorized"),
}


class RefusingCluster(BaseHTTPRequestHandler):
    """Kubernetes' own form of refusals."""

    def do_GET(self) -> None:
        found = ANSWERS.get(self.path.partition("?")[0])
        if found is None:
            self._send(200, _discovery(self.path.partition("?")[0]))
            return
        code, reason, message = found
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
        self._send(code, {**status, "message": message})

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, code: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _discovery(path: str) -> object:
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
    kinds = {"nodes": ("Node", False), "pods": ("Pod", True), "services": ("Service", True)}
    resources = [
        {"name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": ["get", "list"]}
        for name, (kind, namespaced) in kinds.items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": resources}


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), RefusingCluster)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _use(monkeypatch, tmp_path, server.server_port)
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def _use(monkeypatch: pytest.MonkeyPatch, folder: Path, port: int) -> None:
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "jane"}}],
        "users": [{"name": "jane", "user": {}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setenv("HOME", str(folder))


def test_a_missing_right_names_its_verb_and_its_resource(refusing):
    with pytest.raises(
        ForbiddenError, match=r"^jane has no right to list nodes in the whole cluster; ask for it, and "
    ):
        Kubectl().get("nodes")
    with pytest.raises(
        ForbiddenError, match=r"jane has no right to create pods in the namespace lorry; .* --namespace"
    ):
        Kubectl(namespace="lorry").get("pods")


def test_an_object_that_is_missing_and_a_login_that_ended_are_told_apart(refusing):
    with pytest.raises(MissingObjectError, match=r'^kubectl --namespace lorry get .*: services "chat" not found'):
        Kubectl(namespace="lorry").get("services", "chat")
    with pytest.raises(ClusterError, match="current context: the cluster does not accept its login; log in again"):
        Kubectl(namespace="lorry").get("services", "login")


def test_a_cluster_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    _use(monkeypatch, tmp_path, free_port())
    with pytest.raises(
        ClusterError, match=r"^the kubeconfig's current context: the cluster does not answer \(.*refused"
    ):
        Kubectl().get("nodes")
    with pytest.raises(ClusterError, match=r"^context 'other': .*other.*; see kubectl config get-contexts"):
        Kubectl("other").get("nodes")


def test_a_machine_without_kubectl_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"^kubectl: not found on this machine; install it"):
        Kubectl().get("nodes")


def test_a_command_is_as_a_person_types_it():
    assert Kubectl("dev", "lorry").command("get", "pods", "-l", "a=b c") == (
        "kubectl --context dev --namespace lorry get pods -l 'a=b c'"
    )
