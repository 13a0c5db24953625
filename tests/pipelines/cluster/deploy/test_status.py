"""`lorry status`: what is pinned, what runs, what answers."""

from __future__ import annotations

from dataclasses import asdict

from pipelines.cluster.deploy.deploy import Wanted, deploy
from pipelines.cluster.deploy.pin import pin_overlay
from pipelines.cluster.deploy.status import status_of
from pipelines.commands.deploy import _short

ONE, TWO = "1" * 64, "2" * 64


def test_what_runs_as_pinned_is_shown_with_its_answer_and_speed(overlay, cluster):
    deploy(Wanted(overlay, ONE), cluster, 60, lambda _: None)
    server, page = status_of(overlay, cluster)
    assert (server.name, server.pinned, server.running, server.wanted) == ("model-server", ONE, {ONE: 1}, 1)
    assert (server.model_name, server.answers, server.restarts, server.problem) == ("tiny", "as its proof", 0, None)
    assert server.tokens_per_second is not None
    assert server.tokens_per_second > 0
    assert (page.name, page.answers, page.problem) == ("chat", "", None)
    assert list(page.running) == [page.pinned]
    assert asdict(server)["revision"] == "1"


def test_an_answer_that_is_not_the_proof_is_said(overlay, cluster):
    deploy(Wanted(overlay, ONE), cluster, 60, lambda _: None)
    cluster.answers[ONE] = "Paris"
    server = status_of(overlay, cluster)[0]
    assert (server.answers, server.problem) == ("not as its proof", "not as its proof")
    assert status_of(overlay, cluster, ask=False)[0].answers == ""


def test_a_pod_that_ends_after_a_deploy_does_not_count(overlay, cluster):
    deploy(Wanted(overlay, ONE), cluster, 60, lambda _: None)
    deploy(Wanted(overlay, TWO), cluster, 60, lambda _: None)
    (server, _) = status_of(overlay, cluster, ask=False)
    assert (server.running, server.problem) == ({TWO: 1}, None)


def test_a_server_whose_image_is_not_the_pinned_one_is_a_problem(overlay, cluster, monkeypatch):
    deploy(Wanted(overlay, ONE), cluster, 60, lambda _: None)
    monkeypatch.setenv("LORRY_TAG", "test-2")
    pin_overlay(overlay, ONE, None)
    (server, _) = status_of(overlay, cluster, ask=False)
    assert server.problem is not None
    assert server.problem.startswith("what runs is not what")


def test_what_was_pinned_and_not_deployed_is_a_problem(overlay, cluster):
    deploy(Wanted(overlay, ONE), cluster, 60, lambda _: None)
    pin_overlay(overlay, TWO, None)
    server, page = status_of(overlay, cluster, ask=False)
    assert server.problem == f"what runs is not what {overlay} pins; lorry deploy {overlay}"
    assert page.problem is None


def test_pods_that_crash_are_counted_with_the_reason(overlay, cluster):
    deploy(Wanted(overlay, ONE), cluster, 60, lambda _: None)
    cluster.crashes.add(ONE)
    (server, _) = status_of(overlay, cluster)
    assert (server.running, server.restarts) == ({}, 2)
    assert server.problem == "its container model-server ended twice (exit code 1)"
    assert server.answers == "", "nothing is there to ask"


def test_a_cluster_without_it_says_how_to_deploy(overlay, cluster):
    assert {row.problem for row in status_of(overlay, cluster)} == {f"not on the cluster; lorry deploy {overlay}"}


def test_a_digest_and_an_image_are_shown_short():
    assert _short("ab" * 32) == "abababababab"
    assert _short("registry.example/lorry/chat:1234") == "chat:1234"
