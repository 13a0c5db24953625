"""`lorry rollback`: what served before serves again, and is what the overlay pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ClusterError
from pipelines.cluster.deploy.deploy import Wanted, deploy
from pipelines.cluster.deploy.rollback import _by_name, rollback
from pipelines.cluster.deploy.snapshot import RolloutFailedError
from pipelines.cluster.deploy.workloads import Workload
from pipelines.graph.images import load_settings, reference
from tests.conftest import run_lorry
from tests.manifests.rendering import render
from tests.pipelines.cluster.deploy.cluster_stand_in import ClusterStandIn

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


def deployed(overlay: Path, cluster: ClusterStandIn, *models: str) -> None:
    for model in models:
        deploy(Wanted(overlay, model), cluster, 60, lambda _: None)


def served(overlay: Path) -> tuple[str, str]:
    """Image and model of the server that the overlay renders."""
    (found,) = [
        one for one in render(overlay) if (one["kind"], one["metadata"]["name"]) == ("Deployment", "model-server")
    ]
    template = found["spec"]["template"]
    return template["spec"]["containers"][0]["image"], template["metadata"]["annotations"]["lorry/model-sha256"]


def test_the_model_and_the_image_of_before_serve_again_and_are_pinned(overlay, cluster, monkeypatch):
    before = reference("model-server", load_settings())
    deployed(overlay, cluster, ONE)
    monkeypatch.setenv("LORRY_REGISTRY", "registry.example/new")
    deployed(overlay, cluster, TWO)
    lines: list[str] = []
    rollback(overlay, "model-server", None, cluster, 60, lines.append)
    assert cluster.served().model == ONE
    assert served(overlay) == (before, ONE)
    assert f"model-server: the model {ONE}" in lines
    assert cluster.served("chat").images["chat"].startswith("registry.example/new/"), "the page was not asked to"
    assert "registry.example/new/chat" in (overlay / "pinned" / "kustomization.yaml").read_text()


def test_a_revision_further_back_can_be_named(overlay, cluster):
    deployed(overlay, cluster, ONE, TWO, THREE)
    rollback(overlay, "model-server", 1, cluster, 60, lambda _: None)
    assert cluster.served().model == ONE
    with pytest.raises(
        ClusterError, match=r"--to-revision 9: deployment/model-server runs 4 and can go back to 2, 3; see"
    ):
        rollback(overlay, "model-server", 9, cluster, 60, lambda _: None)


def test_a_model_that_a_deploy_has_undone_is_not_gone_back_to(overlay, cluster):
    deployed(overlay, cluster, ONE, TWO)
    cluster.answers[THREE] = "Paris"
    with pytest.raises(RolloutFailedError):
        deployed(overlay, cluster, THREE)
    rollback(overlay, "model-server", None, cluster, 60, lambda _: None)
    assert cluster.served().model == ONE


def test_what_was_there_before_and_does_not_serve_well_either_is_not_kept(overlay, cluster):
    deployed(overlay, cluster, ONE, TWO)
    before = served(overlay)
    cluster.answers[ONE] = "Paris"
    with pytest.raises(
        RolloutFailedError, match=r"answer is wrong: .*\nWhat ran before was brought back; try another --to"
    ):
        rollback(overlay, "model-server", None, cluster, 60, lambda _: None)
    assert cluster.served().model == TWO
    assert served(overlay) == before


def test_images_are_named_whatever_their_registry_and_their_tag():
    images = {"server": "localhost:5000/lorry/model-server@sha256:ab", "chat": "localhost:5000/lorry/chat:1"}
    assert set(_by_name(Workload("server", images, None, False))) == {"model-server", "chat"}


def test_without_a_revision_before_there_is_nothing_to_roll_back_to(overlay, cluster):
    deployed(overlay, cluster, ONE)
    with pytest.raises(ClusterError, match=r"it runs its revision 1; there is nothing to roll back to"):
        rollback(overlay, "model-server", None, cluster, 60, lambda _: None)
    with pytest.raises(ClusterError, match="namespace lorry: no Deployment 'other'; it has chat, model-server"):
        rollback(overlay, "other", None, cluster, 60, lambda _: None)


def test_the_commands_can_be_seen_before(overlay):
    done = run_lorry("rollback", overlay, "--dry-run", "--to-revision", 3)
    assert done.returncode == 0, done.stderr
    assert "kubectl --namespace lorry rollout undo deployment/model-server --to-revision=3\n" in done.stdout
    done = run_lorry("deploy", overlay, "--dry-run", "--model", ONE, "--context", "prod")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"lorry pin {overlay} --model {ONE} --server model-server"
    assert lines[2] == f"kubectl --context prod apply -k {overlay}"
    assert "kubectl --context prod --namespace lorry rollout undo deployment/model-server" in lines
    assert lines[-1] == f"# and {overlay}/pinned as it was"
    assert served(overlay)[1] == "0" * 64, "nothing is pinned"
