"""One ConfigMap through the API server of a cluster."""

from __future__ import annotations

import json
import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import certifi
import pytest

from components.argo_retries import config_map as module
from components.argo_retries.config_map import ConfigMap
from components.argo_retries.policy import POLICY
from components.errors import ClusterError


class ApiServer:
    """One ConfigMap; a PUT with an old resource version is a conflict, as in a cluster."""

    def __init__(self, data: dict[str, str] | None) -> None:
        self.stored: dict[str, Any] = {"metadata": {"name": "c", "resourceVersion": "7"}, "data": data}
        self.status = 200
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        self.requests.append((method, path, headers))
        if self.status != 200:
            return self.status, {}
        if method == "PUT":
            if body["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
                return 409, {}
            self.stored = {**body, "metadata": {**body["metadata"], "resourceVersion": "8"}}
        return 200, self.stored


@contextmanager
def served(server: ApiServer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = server.answer(self.command, self.path, dict(self.headers), body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}/configmaps/c"
    finally:
        http.shutdown()
        http.server_close()


def test_the_config_map_is_replaced_with_its_other_content(caplog):
    server = ApiServer({"a": "1"})
    with served(server) as url:
        config_map = ConfigMap(url, "secret", None)
        assert config_map.read() == {"a": "1"}
        config_map.replace({"a": "1", "b": "2"})
    assert server.stored == {"metadata": {"name": "c", "resourceVersion": "8"}, "data": {"a": "1", "b": "2"}}
    assert [(method, headers["Authorization"]) for method, _, headers in server.requests] == [
        ("GET", "Bearer secret"), ("PUT", "Bearer secret"),
    ]  # fmt: skip


def test_a_config_map_without_data_is_empty():
    with served(ApiServer(None)) as url:
        assert ConfigMap(url, "t", None).read() == {}


def test_a_change_in_between_is_an_error():
    server = ApiServer({})
    with served(server) as url:
        config_map = ConfigMap(url, "t", None)
        config_map.read()
        server.stored["metadata"] = {"name": "c", "resourceVersion": "9"}
        with pytest.raises(ClusterError, match="answers 409 Conflict to PUT"):
            config_map.replace({})


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (404, "Not Found")])
def test_a_refusal_is_an_error_with_its_status(status, reason):
    server = ApiServer({})
    server.status = status
    with served(server) as url, pytest.raises(ClusterError, match=f"the cluster answers {status} {reason} to GET"):
        ConfigMap(url, "t", None).read()


def test_a_cluster_that_does_not_answer_is_an_error():
    with served(ApiServer({})) as url:
        pass
    with pytest.raises(ClusterError, match="the cluster does not answer"):
        ConfigMap(url, "t", None).read()


@pytest.fixture
def account(tmp_path, monkeypatch):
    """The service account of a pod."""
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("kubeflow\n")
    shutil.copyfile(certifi.where(), tmp_path / "ca.crt")
    monkeypatch.setattr(module, "ACCOUNT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("10.0.0.1", "6443", "https://10.0.0.1:6443"),
        ("10.0.0.1", None, "https://10.0.0.1:443"),
        ("fd00::1", "443", "https://[fd00::1]:443"),
    ],
)
def test_in_a_pod_the_address_token_and_certificate_are_its_accounts(account, monkeypatch, host, port, address):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    if port:
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    config_map = ConfigMap.in_this_namespace("c")
    assert config_map.url == f"{address}/api/v1/namespaces/kubeflow/configmaps/c"
    assert config_map.token == "secret"
    assert config_map.context.verify_mode == ssl.CERT_REQUIRED


def test_outside_of_a_pod_it_says_how_it_is_run(account):
    (account / "token").unlink()
    with pytest.raises(ClusterError, match=r"token: no such file; this command runs as a Job, see docs/cluster\.md"):
        ConfigMap.in_this_namespace("c")


def test_the_command_sets_the_policy_once(monkeypatch, capsys):
    from components.argo_retries.command import argo_retries

    server = ApiServer({"workflowDefaults": ""})
    with served(server) as url:
        monkeypatch.setattr(ConfigMap, "in_this_namespace", lambda name: ConfigMap(url, "t", None))
        argo_retries("c")
        assert "are retried" in capsys.readouterr().out
        assert POLICY["expression"][:20] in server.stored["data"]["workflowDefaults"]
        argo_retries("c")
        assert "has the retry policy already" in capsys.readouterr().out
    assert [method for method, _, _ in server.requests] == ["GET", "PUT", "GET"]
