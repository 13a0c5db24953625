"""`lorry deploy`: what serves well stays, what does not is taken back with its reason."""

from __future__ import annotations

import fcntl
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.errors import BusyError, ClusterError, RecipeError
from pipelines.cluster.deploy.deploy import Wanted, deploy, difference
from pipelines.cluster.deploy.lease import NAME
from pipelines.cluster.deploy.snapshot import RolloutFailedError
from pipelines.cluster.overlay import load_overlay
from tests.pipelines.cluster.deploy.cluster_stand_in import ClusterStandIn

GOOD, BAD, OTHER = "1" * 64, "2" * 64, "3" * 64


def pinned(overlay: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (overlay / "pinned").iterdir()}


def deployed(overlay: Path, cluster: ClusterStandIn, model: str | None = None, seconds: float = 60) -> list[str]:
    lines: list[str] = []
    deploy(Wanted(overlay, model), cluster, seconds, lines.append)
    return lines


def test_a_model_is_pinned_applied_followed_and_asked(overlay, cluster):
    lines = deployed(overlay, cluster, GOOD)
    assert cluster.served().model == GOOD
    assert GOOD in (overlay / "pinned" / "model-server.yaml").read_text()
    assert "model-server: rolled out" in lines
    assert "model-server: answers; as its manifest says: 'Lorry is a program.'" in lines
    assert NAME not in cluster.leases, "the next deploy may begin"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            "crashes",
            r"its container model-server ended twice \(exit code 1\); its log ends with:\n  error: the file is d",
        ),
        ("unscheduled", r"not rolled out after .* s: model-server: .* no node takes its pod: .*Insufficient cpu"),
        ("answers", r"its answer is wrong: the manifest says 'Lorry is a program.', the server answers 'Paris'"),
    ],
)
def test_a_model_that_does_not_serve_well_is_taken_back(overlay, cluster, fault, says):
    deployed(overlay, cluster, GOOD)
    before = pinned(overlay)
    if fault == "answers":
        cluster.answers[BAD] = "Paris"
    else:
        getattr(cluster, fault).add(BAD)
    with pytest.raises(RolloutFailedError, match=says) as failed:
        deployed(overlay, cluster, BAD, seconds=0.5)
    said = f"It was taken back: model-server as before; {overlay / 'pinned'} is as before"
    assert str(failed.value).endswith(said)
    assert cluster.served().model == GOOD
    assert pinned(overlay) == before
    assert "rollout undo deployment/model-server --to-revision=1" in cluster.ran
    assert NAME not in cluster.leases


def test_an_image_that_cannot_be_pulled_is_refused_before_the_page_stops(overlay, cluster, monkeypatch):
    deployed(overlay, cluster, GOOD)
    before, applied = pinned(overlay), cluster.ran.count(f"apply --kustomize {overlay}")
    monkeypatch.setenv("LORRY_REGISTRY", "registry.example/gone")
    cluster.not_pulled |= {image for image in _images(overlay) if "chat" in image}
    with pytest.raises(
        ClusterError, match=r"its image registry.example/gone/chat:\S+ cannot be pulled .* Nothing was c"
    ):
        deployed(overlay, cluster, OTHER)
    assert cluster.ran.count(f"apply --kustomize {overlay}") == applied
    assert pinned(overlay) == before
    assert any(line.startswith("delete pod") for line in cluster.ran), "the pod that pulled is gone"


def test_an_image_of_the_server_alone_is_taken_back_while_the_old_pod_serves(overlay, cluster, monkeypatch):
    deployed(overlay, cluster, GOOD)
    monkeypatch.setenv("LORRY_REGISTRY", "registry.example/gone")
    monkeypatch.setattr("pipelines.cluster.deploy.rollout.PULL_GRACE_SECONDS", 0)
    cluster.not_pulled |= {image for image in _images(overlay) if "model-server" in image}
    with pytest.raises(
        RolloutFailedError, match=r"model-server: its image registry.example/gone/model-server:\S+ cannot"
    ):
        deployed(overlay, cluster, OTHER)
    assert cluster.served().model == GOOD
    assert {"rollout undo deployment/model-server --to-revision=1", "rollout undo deployment/chat --to-revision=1"} <= {
        *cluster.ran
    }


def _images(overlay: Path) -> list[str]:
    from pipelines.graph.images import load_settings, reference

    return [reference(name, load_settings()) for name in ("data", "model-server", "chat")]


def test_a_first_deploy_that_fails_has_nothing_to_go_back_to(overlay, cluster):
    cluster.crashes.add(BAD)
    lines: list[str] = []
    says = "chat, model-server|model-server, chat stays as it is, for nothing was there before; .*pinned is as before"
    with pytest.raises(RolloutFailedError, match=says) as failed:
        deploy(Wanted(overlay, BAD), cluster, 60, lines.append)
    assert "taken back" not in str(failed.value)


def test_what_is_not_on_the_cluster_yet_is_made_with_its_namespace(overlay, cluster):
    cluster.namespaces.clear()
    deployed(overlay, cluster, GOOD)
    assert cluster.namespaces == {"lorry"}


def test_a_second_deploy_at_the_same_time_is_refused(overlay, cluster):
    descriptor = os.open(overlay, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(BusyError, match="another deploy of this folder is running on this machine; wait for it"):
        deployed(overlay, cluster, GOOD)
    os.close(descriptor)
    cluster.leases[NAME] = _lease(datetime.now(UTC))
    with pytest.raises(
        BusyError, match=r"namespace lorry: jane@laptop deploys there since .* UTC; wait for it. If it is"
    ):
        deployed(overlay, cluster, GOOD)
    assert cluster.history == {}
    assert (overlay / "pinned" / "model-server.yaml").read_text().count("0" * 64) == 1, "pinned/ is as before"


def test_the_lease_of_a_deploy_that_died_expires(overlay, cluster):
    cluster.leases[NAME] = _lease(datetime(2026, 1, 1, tzinfo=UTC))
    deployed(overlay, cluster, GOOD)
    assert cluster.served().model == GOOD
    assert NAME not in cluster.leases


def _lease(renewed: datetime) -> dict[str, Any]:
    at = renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "jane@laptop", "leaseDurationSeconds": 600, "renewTime": at, "acquireTime": at}
    return {"metadata": {"resourceVersion": "7"}, "spec": spec}


def test_an_overlay_without_a_model_or_without_its_folder_says_what_to_do(overlay, cluster):
    with pytest.raises(
        RecipeError, match="model-server has no model; give it one with --model SHA256, or with --store for its newest"
    ):
        deployed(overlay, cluster)
    shutil.rmtree(overlay / "pinned")
    with pytest.raises(RecipeError, match="pinned: no such folder; copy it from manifests/overlays/local"):
        deployed(overlay, cluster, GOOD)


def test_an_apply_that_breaks_off_is_taken_back(overlay, cluster, monkeypatch):
    deployed(overlay, cluster, GOOD)
    run = cluster.run

    def breaking(*arguments: str, **options: Any) -> str:
        done = run(*arguments, **options)
        if arguments[:2] == ("apply", "--kustomize"):
            raise ClusterError("the webhook of NetworkPolicies timed out")
        return done

    monkeypatch.setattr(ClusterStandIn, "run", lambda _, *arguments, **options: breaking(*arguments, **options))
    with pytest.raises(
        RolloutFailedError, match="webhook of NetworkPolicies timed out\nIt was taken back: model-server as"
    ):
        deployed(overlay, cluster, BAD)
    assert cluster.served().model == GOOD


def test_a_server_that_no_service_selects_is_taken_back(overlay, cluster):
    deployed(overlay, cluster, GOOD)
    path = overlay.parents[1] / "base" / "model-server" / "service.yaml"
    path.write_text(path.read_text().replace("instance: model-server", "instance: another"))
    with pytest.raises(RolloutFailedError, match=r"no Service selects the pods of model-server\nIt was taken back"):
        deployed(overlay, cluster, BAD)
    assert cluster.served().model == GOOD


def test_a_proxy_of_the_environment_is_not_asked(overlay, cluster, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    deployed(overlay, cluster, GOOD)
    assert cluster.served().model == GOOD


def test_a_model_that_was_undone_and_is_good_later_is_a_good_one(overlay, cluster):
    deployed(overlay, cluster, GOOD)
    cluster.answers[BAD] = "Paris"
    with pytest.raises(RolloutFailedError):
        deployed(overlay, cluster, BAD)
    assert len(cluster.marked) == 1
    cluster.answers.clear()
    deployed(overlay, cluster, BAD)
    assert cluster.marked == set()


def test_a_missing_right_changes_nothing(overlay, cluster):
    cluster.forbidden.add("lease")
    before = pinned(overlay)
    with pytest.raises(ClusterError, match="jane has no right to create Lease"):
        deployed(overlay, cluster, GOOD)
    assert pinned(overlay) == before
    assert cluster.history == {}


def test_a_right_that_is_missing_later_is_asked_for_before(overlay, cluster):
    cluster.forbidden.add("auth can-i create pods --subresource=portforward")
    with pytest.raises(
        ClusterError, match=r"^no right to create pods/portforward in the namespace lorry; ask .* can-i cre"
    ):
        deployed(overlay, cluster, GOOD)
    assert cluster.history == {}


@pytest.mark.parametrize(("at", "stays"), [("diff", False), ("rollout", True)])
def test_an_interrupted_deploy_keeps_what_it_has_applied(overlay, cluster, monkeypatch, at, stays):
    deployed(overlay, cluster, GOOD)
    before = pinned(overlay)

    def interrupt(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.cluster.deploy.deploy." + {"diff": "difference", "rollout": "follow"}[at], interrupt)
    with pytest.raises(KeyboardInterrupt):
        deployed(overlay, cluster, OTHER)
    assert (pinned(overlay) != before) == stays
    assert (cluster.served().model == OTHER) == stays
    assert NAME not in cluster.leases


def test_a_user_of_the_namespace_alone_may_deploy(overlay, cluster):
    cluster.forbidden.add("get namespace lorry")
    deployed(overlay, cluster, GOOD)
    assert cluster.served().model == GOOD


DIFF = """\
diff -u -N /tmp/LIVE-1/apps.v1.Deployment.lorry.model-server /tmp/MERGED-2/apps.v1.Deployment.lorry.model-server
--- /tmp/LIVE-1/apps.v1.Deployment.lorry.model-server\t2026-11-28 15:58:00
+++ /tmp/MERGED-2/apps.v1.Deployment.lorry.model-server\t2026-11-28 15:58:00
@@ -6,7 +6,7 @@
-  generation: 1
+  generation: 2
   labels:
@@ -30,7 +30,7 @@
-        lorry/model-sha256: 1
+        lorry/model-sha256: 2
diff -u -N /tmp/LIVE-1/v1.Service.lorry.chat /tmp/MERGED-2/v1.Service.lorry.chat
--- /tmp/LIVE-1/v1.Service.lorry.chat\t2026-11-28 15:58:00
+++ /tmp/MERGED-2/v1.Service.lorry.chat\t2026-11-28 15:58:00
@@ -0,0 +1,2 @@
+apiVersion: v1
+kind: Service
"""


def test_a_difference_shows_the_lines_that_change_and_new_objects_by_name(overlay, cluster, monkeypatch):
    loaded = load_overlay(cluster, overlay)
    assert difference(loaded, cluster) == ["nothing changes on the cluster"]
    monkeypatch.setattr(cluster, "run", lambda *_, **__: DIFF)
    assert difference(loaded, cluster) == [
        "changes apps.v1.Deployment.lorry.model-server",
        "  -        lorry/model-sha256: 1",
        "  +        lorry/model-sha256: 2",
        "adds v1.Service.lorry.chat",
    ]
