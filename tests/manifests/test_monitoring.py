"""Alert rules and dashboard: they ask for metrics that exist, and each alert fires when it should and not else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import VectorSelector
from ruamel.yaml import YAML

from tests.conftest import ROOT
from tests.manifests.rendering import render

COMPONENTS = ROOT / "manifests" / "components"
UNIT_TESTS = Path(__file__).parent / "alert_rules_test.yaml"
# What kube-state-metrics, the kubelet with its cAdvisor, and Prometheus itself have by these names.
STANDARD = {
    "kube_deployment_status_replicas_available", "kube_deployment_spec_replicas",
    "kube_pod_container_status_restarts_total", "kube_pod_init_container_status_restarts_total",
    "kubelet_volume_stats_used_bytes", "kubelet_volume_stats_capacity_bytes",
    "container_cpu_usage_seconds_total", "container_memory_working_set_bytes",
    "ALERTS",
}  # fmt: skip


def rendered(name: str, folder: Path) -> dict[str, Any]:
    """The one object of a component."""
    (folder / "kustomization.yaml").write_text(f"components: [{os.path.relpath(COMPONENTS / name, folder)}]\n")
    (found,) = render(folder)
    return found


@pytest.fixture
def dashboard(tmp_path) -> dict[str, Any]:
    return json.loads(rendered("dashboard", tmp_path)["data"]["lorry.json"])


@pytest.fixture
def groups(tmp_path) -> list[dict[str, Any]]:
    return rendered("alert-rules", tmp_path)["spec"]["groups"]


def alerts_of(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def queries_of(dashboard: dict[str, Any]) -> list[str]:
    """The panels' queries, as Grafana sends them."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [query.replace("$__rate_interval", "5m") for query in found]


def selectors(node: Any) -> Iterator[VectorSelector]:
    """Every series that a parsed expression asks for."""
    if isinstance(node, VectorSelector):
        yield node
    children = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
    for child in (*children, *getattr(node, "args", [])):
        if child is not None:
            yield from selectors(child)


def names_in(query: str) -> set[str]:
    return {selector.name for selector in selectors(promql_parser.parse(query))}


@pytest.fixture(scope="module")
def exposed(server) -> dict[str, set[str]]:
    """The metrics of a started model server: the labels of each."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{server}/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_a_query_is_parsed_into_all_the_series_that_it_asks_for():
    query = 'histogram_quantile(0.9, sum by (le) (rate(a_bucket{x="1"}[5m]))) / on (n) (b or vector(0)) > topk(3, -c)'
    assert names_in(query) == {"a_bucket", "b", "c"}


def test_every_metric_of_rules_and_dashboard_is_exposed_by_a_running_server(groups, dashboard, exposed):
    queries = [*queries_of(dashboard), *(rule["expr"] for rule in alerts_of(groups).values())]
    asked = set().union(*map(names_in, queries))
    assert asked - set(exposed) == STANDARD
    assert {name for name in exposed if name.startswith("lorry_")} >= asked - STANDARD


def test_the_labels_that_queries_ask_for_are_the_servers_or_those_of_a_target(groups, dashboard, exposed):
    of_a_target = {"namespace", "pod", "service"}
    queries = [*queries_of(dashboard), *(rule["expr"] for rule in alerts_of(groups).values())]
    for query in queries:
        for selector in selectors(promql_parser.parse(query)):
            if selector.name in exposed:
                labels = {matcher.name for matcher in selector.matchers.matchers}
                assert labels <= exposed[selector.name] | of_a_target, query


def test_panels_do_not_overlap_and_each_says_what_it_shows(dashboard):
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["description"] and panel["targets"] for panel in panels)


def test_grafanas_sidecar_finds_the_dashboard_by_its_label(tmp_path):
    found = rendered("dashboard", tmp_path)
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    # A hash in its name would leave an old dashboard of the same uid behind.
    assert found["metadata"]["name"] == "grafana-dashboard-lorry"


def test_each_alert_says_how_bad_it_is_what_is_wrong_and_where_to_look(groups):
    for name, rule in alerts_of(groups).items():
        assert name.startswith("Lorry")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None and not os.environ.get("CI"):
        pytest.skip("no promtool here; install Debian's package prometheus")
    assert found is not None, "CI must install Debian's package prometheus"
    return found


def run_unit_tests(promtool: str, folder: Path, groups: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    with (folder / "rules.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump({"groups": groups}, file)
    shutil.copy(UNIT_TESTS, folder)
    command = [promtool, "test", "rules", UNIT_TESTS.name]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_promtool_takes_every_rule_and_each_alert_fires_when_it_should(promtool, groups, tmp_path):
    done = run_unit_tests(promtool, tmp_path, groups)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(alerts_of(groups))} rules found" in checked.stdout


def test_an_alert_that_never_fires_or_always_does_fails_its_unit_test(promtool, groups, tmp_path):
    for name, rule in alerts_of(groups).items():
        expression = rule["expr"]
        for broken in (f"({expression}) > 1e9", 'label_replace(vector(1), "namespace", "lorry", "", "")'):
            rule["expr"] = broken
            done = run_unit_tests(promtool, tmp_path, groups)
            assert done.returncode == 1, f"{name}: {broken}"
            assert name in done.stdout + done.stderr
        rule["expr"] = expression


def test_promtool_takes_every_query_of_the_dashboard(promtool, dashboard, tmp_path):
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries_of(dashboard))]
    assert len(rules) > 20
    path = tmp_path / "queries.yaml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
