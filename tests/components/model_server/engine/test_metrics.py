"""Figures for Prometheus: their names are what dashboards and alerts are written by."""

from __future__ import annotations

from prometheus_client import generate_latest

from components.model_server.engine.metrics import Metrics

NAMES = {
    "lorry_time_to_first_token_seconds", "lorry_inter_token_latency_seconds", "lorry_queue_seconds",
    "lorry_prompt_tokens", "lorry_prefix_hits", "lorry_completion_tokens", "lorry_requests_finished",
    "lorry_requests_cancelled", "lorry_requests_timed_out", "lorry_requests_rejected", "lorry_model_info",
    "lorry_requests_waiting", "lorry_requests_running", "lorry_prefix_cache_bytes", "lorry_threads",
}  # fmt: skip


def watched() -> Metrics:
    metrics = Metrics()
    metrics.set_model_name("m")
    metrics.watch(waiting=lambda: 1, running=lambda: 2, prefix_cache_bytes=lambda: 3, threads=lambda: 4)
    return metrics


def test_every_figure_has_its_name_and_a_description():
    families = list(watched().registry.collect())
    assert {family.name for family in families} == NAMES
    assert all(len(family.documentation) > 5 for family in families)


def test_the_serving_page_names_every_figure():
    from tests.conftest import ROOT

    page = (ROOT / "docs/serving.md").read_text()
    exposed = {line.split("{")[0].split(" ")[0] for line in generate_latest(watched().registry).decode().splitlines()}
    counters = {name for name in exposed if name.endswith("_total")}
    assert {name for name in counters if f"`{name}`" not in page} == set()
    gauges = {"lorry_requests_waiting", "lorry_requests_running", "lorry_prefix_cache_bytes", "lorry_threads"}
    assert {name for name in gauges if f"`{name}`" not in page} == set()


def test_gauges_are_read_when_they_are_asked_for():
    metrics, waiting = Metrics(), [5]
    metrics.watch(waiting=lambda: waiting[0], running=int, prefix_cache_bytes=int, threads=int)
    assert metrics.registry.get_sample_value("lorry_requests_waiting") == 5
    waiting[0] = 7
    assert metrics.registry.get_sample_value("lorry_requests_waiting") == 7


def test_reasons_and_kinds_are_there_before_they_happen():
    """A rate over a label that does not exist yet misses its first event."""
    value = Metrics().registry.get_sample_value
    for reason in ("queue_full", "stopping", "prompt_too_long", "invalid", "unauthorized"):
        assert value("lorry_requests_rejected_total", {"reason": reason}) == 0
    for reason in ("stop", "length", "error"):
        assert value("lorry_requests_finished_total", {"reason": reason}) == 0
    for kind in ("computed", "cached"):
        assert value("lorry_prompt_tokens_total", {"kind": kind}) == 0
    assert watched().registry.get_sample_value("lorry_model_info", {"model_name": "m"}) == 1
