"""Kubeflow's rows, where an endpoint is given."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.cluster.doctor import kubeflow
from tests.pipelines.cluster.test_foreign_endpoints import ENDPOINTS, fixed_answer

JSON = {"Content-Type": "application/json"}


def answer(tag: str) -> bytes:
    return json.dumps({"tag_name": tag, "multi_user": True, "experiments": []}).encode()


def test_version_and_login_come_from_the_endpoint(subject):
    with fixed_answer(200, JSON, answer("2.17.0")) as address:
        version, login = kubeflow.api(replace(subject({}), endpoint=f"http://{address}", token="secret"))
    assert (version.state, version.found) == ("ok", "Kubeflow Pipelines 2.17.0, for several users")
    assert (login.state, login.found) == ("ok", f"http://{address} takes it")


def test_a_release_that_was_not_tried_is_a_warning(subject):
    with fixed_answer(200, JSON, answer("2.5.0")) as address:
        version, _ = kubeflow.api(replace(subject({}), endpoint=f"http://{address}"))
    assert version.state == "warning"
    assert version.found == "Kubeflow Pipelines 2.5.0; Lorry was tried with 2.15 to 2.18"


@pytest.mark.parametrize("name", ["a web page", "an empty object", "a list", "no token", "nothing behind a proxy"])
def test_an_endpoint_that_is_not_kubeflow_or_refuses_is_a_row(name, subject):
    status, kind, body, found = ENDPOINTS[name]
    with fixed_answer(status, {"Content-Type": kind}, body) as address:
        (row,) = kubeflow.api(replace(subject({}), endpoint=f"http://{address}"))
    assert (row.check, row.state) == ("api", "missing")
    assert found in row.found
    assert row.fix == "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8081:80"


def test_without_an_endpoint_no_login_is_tried_and_the_way_to_one_is_named(subject):
    _, login = kubeflow.api(subject({}))
    assert login.state == "warning"
    assert login.fix.endswith("8081:80 & export KFP_ENDPOINT=http://127.0.0.1:8081")
