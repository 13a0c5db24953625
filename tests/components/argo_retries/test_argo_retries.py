"""The retry policy in the configuration of Argo's controller, whatever other content it has."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ruamel.yaml import YAML

from components.argo_retries.config_map import ConfigMap
from components.argo_retries.policy import EXPRESSION, POLICY, with_retry_policy
from components.errors import ClusterError

# As Kubeflow Pipelines 2.17 has it, with a line of somebody's own.
DEFAULTS = """\
# ours: keep for a day
spec:
  ttlStrategy:
    secondsAfterCompletion: 86400
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""
OTHERS = {"artifactRepository": "archiveLogs: true\n", "executor": "imagePullPolicy: IfNotPresent\n"}


def loaded(text: str):
    return YAML(typ="safe").load(text)


def test_the_policy_takes_the_place_of_kubeflows_and_all_else_stays():
    changed = with_retry_policy({**OTHERS, "workflowDefaults": DEFAULTS}, "ConfigMap c")
    assert {name: text for name, text in changed.items() if name != "workflowDefaults"} == OTHERS
    spec = loaded(changed["workflowDefaults"])["spec"]
    assert spec["templateDefaults"] == {"retryStrategy": POLICY}
    assert spec["ttlStrategy"] == {"secondsAfterCompletion": 86400}
    assert changed["workflowDefaults"].startswith("# ours: keep for a day\n")


def test_what_argo_would_read_otherwise_without_its_quotes_keeps_them():
    text = 'spec:\n  arguments:\n    parameters: [{name: a, value: "yes"}]\n  templateDefaults:\n'
    changed = with_retry_policy({"workflowDefaults": text}, "ConfigMap c")["workflowDefaults"]
    assert 'value: "yes"' in changed
    assert loaded(changed)["spec"]["templateDefaults"]["retryStrategy"] == POLICY


def test_a_second_time_changes_nothing():
    once = with_retry_policy({"workflowDefaults": DEFAULTS}, "ConfigMap c")
    assert with_retry_policy(once, "ConfigMap c") == once


def test_defaults_that_are_not_there_are_made():
    changed = with_retry_policy(OTHERS, "ConfigMap c")
    assert loaded(changed["workflowDefaults"]) == {"spec": {"templateDefaults": {"retryStrategy": POLICY}}}


def test_an_older_installations_one_text_gets_it_in_its_place():
    changed = with_retry_policy({"config": "executor: {imagePullPolicy: Always}\n"}, "ConfigMap c")
    assert set(changed) == {"config"}
    whole = loaded(changed["config"])
    assert whole["executor"] == {"imagePullPolicy": "Always"}
    assert whole["workflowDefaults"]["spec"]["templateDefaults"]["retryStrategy"]["expression"] == EXPRESSION


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("spec: [", "key workflowDefaults: cannot be read as Argo's configuration (while parsing"),
        ("- a\n- b\n", "(it is no mapping); nothing was changed: correct it first"),
        ("spec: {templateDefaults: {retryStrategy: x}}\n", "(retryStrategy is no mapping); nothing was changed"),
        ("spec: {templateDefaults: none}\n", "(templateDefaults is no mapping); nothing was changed"),
        (
            "spec: {templateDefaults: {retryStrategy: {limit: 5, retryPolicy: Always}}}\n",
            "has another retryStrategy already ({'limit': '5', 'retryPolicy': 'Always'}); nothing was changed",
        ),
    ],
)
def test_what_is_none_of_kubeflows_is_left_alone_with_the_reason(text, fact):
    with pytest.raises(ClusterError) as caught:
        with_retry_policy({"workflowDefaults": text}, "ConfigMap c")
    assert fact in str(caught.value)


@contextmanager
def api_server(status: int, stored: dict) -> Iterator[str]:
    """A server that has one ConfigMap; what is put there is kept."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(stored).encode())

        def do_PUT(self) -> None:
            stored.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/configmaps/c"
    finally:
        server.shutdown()
        server.server_close()


def test_the_config_map_is_replaced_as_it_was_read():
    stored = {"metadata": {"name": "c", "resourceVersion": "7"}, "data": {"a": "1"}}
    with api_server(200, stored) as url:
        config_map = ConfigMap(url, "token", None)
        assert config_map.read() == {"a": "1"}
        config_map.replace({"a": "1", "b": "2"})
    assert stored == {"metadata": {"name": "c", "resourceVersion": "7"}, "data": {"a": "1", "b": "2"}}


def test_a_cluster_that_refuses_is_said_with_its_status():
    with api_server(403, {}) as url, pytest.raises(ClusterError, match="the cluster answers 403 Forbidden to GET"):
        ConfigMap(url, "token", None).read()


def test_outside_of_a_pod_it_says_where_it_belongs():
    with pytest.raises(ClusterError, match=r"token: no such file; this command runs as a Job, see docs/cluster\.md"):
        ConfigMap.in_this_namespace("c")
