"""Volumes are looked at before a run, through the kubeconfig."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.errors import ClusterError
from pipelines.cluster.pvc_check import check_claims
from pipelines.config.pools import Placement
from tests.conftest import free_port

NAMESPACE = "kubeflow"


def claim(name: str, mode: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"accessModes": [mode]}}


GOOD = [claim("lorry-checkpoints", "ReadWriteOnce"), claim("lorry-hub-cache", "ReadWriteMany")]


class _ApiServer(BaseHTTPRequestHandler):
    """As much of Kubernetes as is asked for: one namespace and its claims."""

    claims: list[dict[str, Any]]

    def do_GET(self) -> None:
        known = {
            f"/api/v1/namespaces/{NAMESPACE}": {"kind": "Namespace", "metadata": {"name": NAMESPACE}},
            f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims": {"items": self.claims},
        }
        found = known.get(self.path)
        content = json.dumps(found or {"kind": "Status", "code": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_ApiServer]]:
    handler = type("Handler", (_ApiServer,), {"claims": GOOD})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_at(server.server_address[1], tmp_path, monkeypatch)
    yield handler
    server.shutdown()
    server.server_close()


def point_at(port: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig whose context ``here`` is the server at a port."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
    }  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


def refusal(context: str = "here", namespace: str = NAMESPACE, claims: tuple[str, ...] = ()) -> str:
    with pytest.raises(ClusterError) as caught:
        check_claims(context, namespace, Placement(), claims)
    return str(caught.value)


def test_volumes_that_are_there_and_can_be_written_pass(cluster):
    check_claims("here", NAMESPACE, Placement(), ())


def test_a_volume_that_is_not_there_is_named_with_the_command_that_makes_it(cluster):
    assert refusal(claims=("lorry-store",)).startswith(
        "volume claim 'lorry-store': namespace 'kubeflow' has none; make it with kubectl apply -k"
    )


def test_a_volume_that_can_only_be_read_is_named_with_its_mode(cluster):
    cluster.claims = [claim("lorry-checkpoints", "ReadOnlyMany"), GOOD[1]]
    assert "'lorry-checkpoints': its access mode is ReadOnlyMany, which cannot be written; make it anew" in refusal()


def test_a_namespace_that_does_not_exist_is_named(cluster):
    assert refusal(namespace="nowhere") == "namespace 'nowhere': the cluster has none; name another with --namespace"


def test_a_context_that_the_kubeconfig_lacks_is_named(cluster):
    assert refusal(context="elsewhere").startswith("--context elsewhere: Invalid kube-config")


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_a_cluster_that_does_not_answer_is_told(tmp_path, monkeypatch):
    point_at(free_port(), tmp_path, monkeypatch)
    assert refusal().startswith("--context here: the cluster does not answer (")


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"{}", b"[]", b'{"items": [{}]}', b"\xff"])
def test_a_server_that_is_not_kubernetes_is_told(body, tmp_path, monkeypatch):
    class Page(_ApiServer):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        point_at(server.server_address[1], tmp_path, monkeypatch)
        told = refusal()
        server.shutdown()
        thread.join()
    assert told.startswith("--context here: its server answers, but not as Kubernetes does: it is another server")
    assert len(told.splitlines()) == 1
