"""What is asked and what cannot be: each source says what stays, or that it is not known."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.collect_garbage.items import Item, Listing
from components.errors import ClusterError, RecipeError
from pipelines.cluster.kubectl import Kubectl
from pipelines.garbage.knowledge import Sources, gather, has_kubeconfig, of_foreign_runs
from pipelines.garbage.known_runs import KnownRuns, runs_on_cluster
from tests.pipelines.garbage.kubectl_stand_in import WORKFLOWS, WORKLOADS, workload

REVISION, OTHER, COMMIT, SHA, KEY = "1" * 64, "2" * 64, "3" * 40, "a" * 64, "5" * 16
SILENT = "Unable to connect to the server: dial tcp 10.0.0.1:443: connect: connection refused"


def run(name: str, state: str, **parameters: Any) -> SimpleNamespace:
    config = SimpleNamespace(parameters=parameters)
    spec = parameters.pop("spec", None)
    return SimpleNamespace(
        run_id=f"id-of-{name}", display_name=name, state=state, runtime_config=config, pipeline_spec=spec
    )


class Endpoint:
    """As much of ``Kubeflow`` as is asked."""

    endpoint = "http://kubeflow"

    def __init__(self, *runs: SimpleNamespace, schedules: tuple[SimpleNamespace, ...] = ()) -> None:
        self._runs, self._schedules = runs, schedules

    def runs(self, limit: int) -> list[SimpleNamespace]:
        return list(self._runs)[:limit]

    def schedules(self) -> list[SimpleNamespace]:
        return list(self._schedules)


def asked(*runs: SimpleNamespace, **more: Any) -> Sources:
    return Sources(kubeflow=Endpoint(*runs, **more))  # type: ignore[arg-type]


def workflow(phase: str) -> dict[str, Any]:
    labels = {"pipeline/runid": f"id-{phase}"}
    return {"metadata": {"name": f"finetune-{phase}", "labels": labels}, "status": {"phase": phase}}


def test_without_a_source_inputs_and_checkpoints_stay_and_it_says_so():
    found = gather(Sources())
    assert found.unknown == {
        "input": "which runs and schedules read it is not known: give --endpoint",
        "base model": "which runs and schedules read it is not known: give --endpoint",
        "checkpoints": "which runs are active is not known: give --endpoint",
    }
    assert found.looked_at == [
        "overlays: none (--overlay names one)",
        "cluster: none (--context names one); what it serves is known by the overlays alone",
        "Kubeflow: none (--endpoint names one)",
    ]


def test_a_cluster_that_does_not_answer_keeps_all_models_unless_it_was_named(cluster):
    cluster.answers(WORKLOADS, SILENT)
    found = gather(Sources(clusters=[Kubectl()]))
    assert found.unknown["model"] == "which models the cluster serves is not known"
    assert "all models stay; --no-cluster goes without it" in found.looked_at[1]
    with pytest.raises(ClusterError, match="context 'dev': the cluster does not answer"):
        gather(Sources(clusters=[Kubectl("dev")], is_chosen=True))


def test_a_cluster_says_which_models_it_serves_and_which_runs_are_active(cluster):
    cluster.answers(WORKLOADS, {"items": [workload("Deployment", "server", SHA)]})
    cluster.answers(WORKFLOWS, {"items": [workflow("Running"), workflow("Succeeded"), workflow("Pending")]})
    found = gather(Sources(clusters=[Kubectl("dev", "kubeflow")]))
    assert found.pins[f"model:{SHA}"] == "served by Deployment lorry/server"
    assert found.pins["run:id-Running"] == found.pins["run:id-Pending"] == "it is active in Kubeflow"
    assert found.unknown["checkpoints"] == "the run finetune-Running is active and may go on from it"
    assert found.looked_at[1:] == [
        "cluster: context dev: Deployments and ReplicaSets in all namespaces name 1 model",
        "Kubeflow: the workflows in the namespace kubeflow: 2 active runs",
    ]


def test_several_clusters_are_asked_each(cluster):
    cluster.answers(WORKLOADS, {"items": [workload("Deployment", "server", SHA)]})
    found = gather(Sources(clusters=[Kubectl("one", "kubeflow"), Kubectl("two", "kubeflow")], is_chosen=True))
    assert [line.partition(": Dep")[0] for line in found.looked_at[1:3]] == [
        "cluster: context one", "cluster: context two",
    ]  # fmt: skip
    assert len([asked for asked in cluster.state["asked"] if "workflows" in asked]) == 2


def test_a_cluster_without_argo_leaves_the_runs_unknown(cluster):
    cluster.answers(WORKFLOWS, 'error: the server doesn\'t have a resource type "workflows"')
    found = gather(Sources(clusters=[Kubectl()]))
    assert found.unknown["checkpoints"] == "which runs are active is not known: give --endpoint"
    with pytest.raises(ClusterError):
        runs_on_cluster(Kubectl())


def test_a_named_context_beside_the_endpoint_is_asked_for_its_runs(cluster):
    cluster.answers(WORKFLOWS, {"items": [workflow("Running"), workflow("Failed")]})
    named = [Kubectl("b", "kubeflow")]
    found = gather(Sources(clusters=named, is_chosen=True, kubeflow=Endpoint(run("over", "SUCCEEDED"))))  # type: ignore[arg-type]
    reads = "the run finetune-Running of context b is active and may read it"
    assert found.unknown == {
        "input": reads, "base model": reads, "checkpoints": "the run finetune-Running is active and may go on from it",
    }  # fmt: skip
    assert found.pins["run:id-Running"] == "it is active in context b"
    assert found.looked_at[-1] == "context b: the workflows in the namespace kubeflow: 1 active run"
    # The context may be that of the endpoint's own cluster, whose runs are known with what they read.
    theirs = SimpleNamespace(**{**vars(run("now", "RUNNING")), "run_id": "id-Running"})
    found = gather(Sources(clusters=named, is_chosen=True, kubeflow=Endpoint(theirs)))  # type: ignore[arg-type]
    assert found.unknown == {"checkpoints": "the run now is active and may go on from it"}


def test_a_named_context_that_does_not_say_what_runs_there_keeps_inputs_and_one_without_argo_does_not(cluster):
    sources = Sources(clusters=[Kubectl("b", "kubeflow")], is_chosen=True, kubeflow=Endpoint())  # type: ignore[arg-type]
    cluster.answers(WORKFLOWS, SILENT)
    found = gather(sources)
    unread = "which runs are active in context b is not known"
    assert found.unknown == {"input": unread, "base model": unread, "checkpoints": unread}
    assert found.looked_at[-1].startswith("context b: the workflows in the namespace kubeflow: not known: context 'b'")
    cluster.answers(WORKFLOWS, 'error: the server doesn\'t have a resource type "workflows"')
    found = gather(sources)
    assert found.unknown == {}
    assert found.looked_at[-1] == "context b: the workflows in the namespace kubeflow: none, it has no Argo"


def test_what_active_runs_and_schedules_read_stays():
    active = run("now", "RUNNING", split={"sources": [{"data": f"s3://b/lorry/inputs/{REVISION}/chats.jsonl"}]})
    over = run("over", "SUCCEEDED", base_model={"address": f"/volumes/store/base-models/{COMMIT}"})
    publishes = {"publish-model": {"inputs": {"parameters": {"run": {"runtimeValue": {"constant": KEY}}}}}}
    spec = {"root": {"dag": {"tasks": publishes}}}
    weekly = run("weekly", "", split={"data": f"s3://b/lorry/inputs/{OTHER}/chats.jsonl"}, spec=spec)
    found = gather(asked(active, over, schedules=(weekly,)))
    assert found.pins == {
        "run:id-of-now": "it is active in Kubeflow",
        f"input:{REVISION}": "the active run now reads it",
        f"input:{OTHER}": "the schedule weekly uses it",
        f"run:{KEY}": "the schedule weekly uses it",
    }
    assert found.runs is not None
    assert KEY in (found.runs.known or ())
    assert found.needs["run:id-of-over"] == (f"base model:{COMMIT}",)
    assert found.unknown == {"checkpoints": "the run now is active and may go on from it"}
    assert found.looked_at[-1] == "Kubeflow: http://kubeflow: 1 active run"


def test_without_an_active_run_nothing_is_unknown():
    assert gather(asked(run("over", "FAILED"), run("canceled", "CANCELED"))).unknown == {}


def test_runs_that_the_endpoint_does_not_know_are_of_another_kubeflow():
    names = ("ours", "theirs", "12345678", "1234567890123456")  # the third is one of kfp.local, which has ended
    items = [Item(kind="run", name=name, size_bytes=1, modified=datetime.now(UTC)) for name in names]
    listings = {"s3://b": Listing(kind="store", items=items)}
    found = of_foreign_runs(listings, KnownRuns(active={}, known=frozenset({"ours"})))
    assert found == {"s3://b": [items[1], items[3]]}
    # Workflows are removed soon after their run has ended.
    assert of_foreign_runs(listings, KnownRuns(active={})) == {}
    assert of_foreign_runs(listings, None) == {}


def test_a_kubeconfig_is_looked_for_where_kubectl_does(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert not has_kubeconfig()
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").touch()
    assert has_kubeconfig()
    monkeypatch.setenv("KUBECONFIG", "")
    assert has_kubeconfig()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/missing{os.pathsep}{tmp_path}/.kube/config")
    assert has_kubeconfig()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    message = (
        r"^KUBECONFIG = '.*/missing': no such file, so no cluster says which models it serves; correct it, or give --no"
    )
    with pytest.raises(RecipeError, match=message):
        has_kubeconfig()
