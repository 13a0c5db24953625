"""The models that overlays and a cluster name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.errors import RecipeError
from pipelines.cluster.kubectl import ForbiddenError, Kubectl
from pipelines.garbage.pins import namespaces_of, pins_of_overlays, pins_on_cluster
from tests.conftest import ROOT
from tests.pipelines.garbage.kubectl_stand_in import WORKLOADS, workload

SHA, OTHER = "a" * 64, "b" * 64
FORBIDDEN = (
    'Error from server (Forbidden): deployments.apps is forbidden: User "jane" cannot list resource "deployments" in '
    'API group "apps" at the cluster scope'
)


def overlay(folder: Path, **servers: str) -> Path:
    shutil.copytree(ROOT / "manifests/overlays/local/pinned", folder / "pinned")
    for name, value in servers.items():
        path = "/spec/template/metadata/annotations/lorry~1model-sha256"
        (folder / "pinned" / f"{name}.yaml").write_text(f"- {{op: replace, path: {path}, value: {value!r}}}\n")
    return folder


def test_the_models_of_every_server_of_every_overlay_are_pinned(tmp_path):
    one = overlay(tmp_path / "one", **{"model-server": SHA, "model-server-second": OTHER})
    unpinned = overlay(tmp_path / "two", **{"model-server": "0" * 64})
    assert pins_of_overlays([one, unpinned]) == {
        f"model:{SHA}": f"pinned by the overlay {one}", f"model:{OTHER}": f"pinned by the overlay {one}",
    }  # fmt: skip


def test_a_folder_that_is_no_overlay_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=rf"--overlay {tmp_path}: has no folder pinned/; give the folder of an over"):
        pins_of_overlays([tmp_path])


@pytest.mark.parametrize(
    ("text", "told"), [("[", "cannot be read"), ("\x00", "cannot be read"), (None, "'newest', which is no sha256")]
)
def test_a_pin_that_cannot_be_read_ends_it_in_one_line(tmp_path, text, told):
    folder = overlay(tmp_path / "one", **{"model-server": "newest"})
    if text is not None:
        (folder / "pinned/model-server.yaml").write_text(text)
    with pytest.raises(RecipeError, match=told) as caught:
        pins_of_overlays([folder])
    assert len(str(caught.value).splitlines()) == 1


def test_deployments_and_the_replica_sets_that_undo_goes_back_to_pin_their_models(cluster):
    found = [
        workload("ReplicaSet", "server-1", OTHER), workload("ReplicaSet", "server-2", SHA),
        workload("Deployment", "server", SHA), workload("Deployment", "chat", None),
        workload("Deployment", "new", "0" * 64),
    ]  # fmt: skip
    cluster.answers(WORKLOADS, {"items": found})
    pins, where = pins_on_cluster(Kubectl())
    assert where == "in all namespaces"
    assert pins == {
        f"model:{SHA}": "served by Deployment lorry/server",
        f"model:{OTHER}": "served by ReplicaSet lorry/server-1, which kubectl rollout undo goes back to",
    }


def test_who_may_not_see_the_whole_cluster_sees_the_namespaces_of_the_overlays(cluster):
    cluster.answers("-A " + WORKLOADS, FORBIDDEN)
    cluster.answers(WORKLOADS, {"items": [workload("Deployment", "server", SHA)]})
    pins, where = pins_on_cluster(Kubectl(None, "kubeflow"), ["lorry"])
    assert pins == {f"model:{SHA}": "served by Deployment lorry/server"}
    assert where == "in lorry alone (no right to the others)"
    with pytest.raises(ForbiddenError, match="jane has no right to list deployments"):
        pins_on_cluster(Kubectl(None, "kubeflow"))


def test_the_namespaces_are_those_of_the_kustomizations():
    overlays = ROOT / "manifests/overlays"
    assert namespaces_of([overlays / "local", overlays / "volume", overlays / "local"]) == ["lorry", "kubeflow"]
