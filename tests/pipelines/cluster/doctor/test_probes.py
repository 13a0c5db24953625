"""The pods of ``--probe``: what they ask for, how their ends are read, and that none is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.errors import ClusterError
from pipelines.cluster.doctor import admission, images, network, storage
from pipelines.cluster.doctor.examination import examine_cluster
from pipelines.cluster.doctor.probes import plan, running, scripts
from pipelines.cluster.doctor.probes.pod import LABEL, ProbePod
from pipelines.cluster.doctor.probes.running import run_pods
from pipelines.cluster.doctor.subject import Outcome
from pipelines.cluster.kubectl import Kubectl
from tests.manifests.restricted import violations
from tests.pipelines.cluster.doctor.recorded_cluster import LOCAL, NODES, RecordedCluster

SUCCEEDED = {"phase": "Succeeded"}


def waiting(reason: str, message: str) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


class Pods(Kubectl):
    """A cluster in memory that makes pods, gives each the statuses of its probe in turn, and deletes them."""

    def __init__(self, statuses: Mapping[str, Sequence[dict[str, Any]]], logs: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.statuses = {name: list(several) for name, several in statuses.items()}
        self.logs = logs or {}
        self.made: dict[str, dict[str, Any]] = {}
        self.policies: list[dict[str, Any]] = []
        self.refused: dict[str, str] = {}
        self.deleted: list[str] = []

    def in_namespace(self, namespace: str) -> Kubectl:
        return self

    def run(self, *arguments: str, given: str | None = None, succeeds_with: Sequence[int] = (0,)) -> str:
        if arguments[0] == "create":
            return self._create(json.loads(given or ""))
        if arguments[0] == "delete":
            self.deleted.append(" ".join(arguments))
            return ""
        if arguments[0] == "logs":
            return self.logs.get(self._probe_of(arguments[1]), "")
        assert arguments[:2] == ("get", "pods"), arguments
        return json.dumps({"items": [{**pod, "status": self._status(name)} for name, pod in self.made.items()]})

    def _create(self, found: dict[str, Any]) -> str:
        if found["kind"] == "NetworkPolicy":
            self.policies.append(found)
            return ""
        if why := self.refused.get(self._image_of(found)):
            raise ClusterError(why)
        self.made[found["metadata"]["name"]] = found
        return ""

    def _image_of(self, pod: dict[str, Any]) -> str:
        return str(pod["spec"]["containers"][0]["image"])

    def _probe_of(self, pod: str) -> str:
        return self._image_of(self.made[pod])

    def _status(self, name: str) -> dict[str, Any]:
        several = self.statuses[self._probe_of(name)]
        return several.pop(0) if len(several) > 1 else several[0]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(running, "SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(running, "SECONDS_FOR_A_NODE", -1)


def probe(image: str, **more: Any) -> ProbePod:
    """A probe whose image is its name too: the stand-in knows it by that."""
    return ProbePod(image, "lorry", image, scripts.PULL, **more)


def outcomes(cluster: Pods, *probes: ProbePod) -> dict[str, Outcome]:
    return run_pods(cluster, probes, lambda line: None)


def test_ends_of_pods_are_told_apart_and_every_pod_is_deleted():
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: 1 Insufficient cpu."}
    cluster = Pods(
        {
            "good": [{"phase": "Pending"}, {"phase": "Running"}, SUCCEEDED],
            "bad": [{"phase": "Failed"}],
            "nowhere": [waiting("ErrImagePull", "of the moment"), waiting("ImagePullBackOff", "no such host")],
            "unplaced": [{"phase": "Pending", "conditions": [unscheduled]}],
            "no-secret": [waiting("CreateContainerConfigError", "secret not found")],
        },
        {"good": "fine", "bad": "Traceback\nchat-data: user 10001 cannot write"},
    )
    found = outcomes(cluster, *(probe(name) for name in cluster.statuses))
    assert found["good"] == Outcome("succeeded", "fine")
    assert found["bad"].reason == "chat-data: user 10001 cannot write"
    assert found["nowhere"] == Outcome("unpulled", reason="cannot be pulled (no such host)")
    assert found["unplaced"] == Outcome("unplaced", reason="no node takes its pod: 0/1 nodes: 1 Insufficient cpu.")
    assert found["no-secret"].reason == "CreateContainerConfigError: secret not found"
    (deleted,) = cluster.deleted
    visit = next(iter(cluster.made.values()))["metadata"]["labels"][LABEL]
    assert f"delete pods,networkpolicies --selector={LABEL}={visit}" in deleted


def test_pods_are_deleted_after_an_interruption_too():
    class Interrupted(Pods):
        def _status(self, name: str) -> dict[str, Any]:
            raise KeyboardInterrupt

    cluster = Interrupted({"good": [SUCCEEDED]})
    with pytest.raises(KeyboardInterrupt):
        outcomes(cluster, probe("good"))
    assert len(cluster.deleted) == 1


def test_a_pod_that_the_cluster_refuses_ends_no_other():
    cluster = Pods({"good": [SUCCEEDED]})
    cluster.refused = {"big": "exceeded quota: small"}
    found = outcomes(cluster, probe("big"), probe("good"))
    assert found["big"] == Outcome("refused", reason="exceeded quota: small")
    assert found["good"].succeeded


def test_probe_pods_pass_restricted_and_one_is_closed_by_a_policy_made_before_it():
    cluster = Pods({"open": [SUCCEEDED], "closed": [{"phase": "Failed"}]})
    claims = probe("open", claims=["chat-data"], secret="lorry-store", user={"runAsNonRoot": True, "fsGroup": 10001})
    outcomes(cluster, claims, probe("closed", is_closed=True))
    for pod in cluster.made.values():
        assert list(violations(pod["spec"])) == []
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    (policy,) = cluster.policies
    selector = policy["spec"]["podSelector"]["matchLabels"]
    closed = [pod for pod in cluster.made.values() if selector.items() <= pod["metadata"]["labels"].items()]
    assert [pod["spec"]["containers"][0]["image"] for pod in closed] == ["closed"]
    assert policy["spec"]["egress"] == []


def test_every_namespace_image_claim_and_node_gets_its_probe(subject, monkeypatch):
    planned: list[ProbePod] = []
    monkeypatch.setattr(plan, "run_pods", lambda _, probes, report: planned.extend(probes) or {})
    plan.run_probes(subject({}), print)
    names = {one.name for one in planned}
    assert names >= {
        "hub", "store from kubeflow", "store from lorry", "claims in kubeflow", "claims in lorry", "processor of node1",
        "policy open", "policy closed",
    }  # fmt: skip
    pulled = [one.image.rpartition("/")[2] for one in planned if one.name.startswith("image ")]
    assert pulled == ["data:recorded", "train:recorded", "export:recorded"]  # the overlay is not pinned yet
    (claims,) = [one for one in planned if one.name == "claims in lorry"]
    assert (claims.claims, claims.user["fsGroup"]) == (["chat-data"], 10001)
    assert [one.name for one in planned if one.is_closed] == ["policy closed"]


def test_without_the_right_to_see_nodes_the_other_probes_go_on(tmp_path, monkeypatch):
    cluster = RecordedCluster()
    cluster.refuse(NODES, "list", "nodes")
    planned: list[ProbePod] = []
    monkeypatch.setattr(plan, "run_pods", lambda _, probes, report: planned.extend(probes) or {})
    cluster.install(tmp_path, monkeypatch)
    examine_cluster(None, LOCAL, None, None, None, (None, None), probe=True, report=print)
    assert {"hub", "policy closed"} <= {one.name for one in planned}
    assert not [one for one in planned if one.name.startswith("processor")]


REFUSED = 'violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'


def test_what_the_cluster_would_refuse_is_said_with_its_own_words(subject):
    class Refusing(Pods):
        def run(self, *arguments: str, given: str | None = None, succeeds_with: Sequence[int] = (0,)) -> str:
            assert arguments[:2] == ("create", "--dry-run=server")
            pod = json.loads(given or "")
            assert "app.kubernetes.io/instance" not in pod["metadata"]["labels"]  # a Service would take it in
            if pod["spec"]["containers"][0]["name"] == "chat":
                raise ClusterError(f'kubectl create: pods "it" is forbidden: {REFUSED}')
            return ""

    visited = replace(subject({}), kubectl=Refusing({}))
    rows = {row.check: row for row in admission.pods(visited)}
    assert {check: row.state for check, row in rows.items()} == {
        "chat in lorry": "missing", "model-server in lorry": "ok", "a step on cpu in kubeflow": "ok",
    }  # fmt: skip
    assert rows["chat in lorry"].found == f"refused: {REFUSED}"
    assert rows["chat in lorry"].fix.startswith("# take what it names out of ")


@pytest.mark.parametrize(
    ("closed", "state", "found"),
    [
        (Outcome("failed", "not reached"), "ok", "enforced"),
        (Outcome("succeeded", "reached"), "warning", "not enforced: a pod whose policy forbids all traffic reached"),
        (Outcome("unplaced", reason="no node"), "warning", "not probed: no node"),
    ],
)
def test_policies_are_enforced_where_the_closed_pod_alone_is_stopped(closed, state, found, subject):
    (row,) = network.policies(subject({"policy open": Outcome("succeeded"), "policy closed": closed}))
    assert row.state == state
    assert row.found.startswith(found)


def test_what_a_pod_found_is_the_row_and_what_did_not_run_proves_nothing(subject):
    refused = Outcome("failed", reason="s3://mlpipeline/lorry/models: no valid answer")
    rows = network.stores(
        subject({"store from kubeflow": refused, "store from lorry": Outcome("refused", reason="quota")})
    )
    runs, serving = rows
    assert (runs.state, runs.found) == ("missing", "s3://mlpipeline/lorry/models: no valid answer")
    assert runs.fix.startswith("kubectl --namespace kubeflow get secret mlpipeline-minio-artifact")
    assert (serving.state, serving.found) == ("warning", "s3://mlpipeline/lorry: not probed: quota")
    writing = list(storage.access(subject({"claims in lorry": Outcome("failed", reason="chat-data: cannot write")})))
    assert [(row.state, row.found) for row in writing] == [
        ("ok", "no claim there has a volume yet"),
        ("missing", "chat-data: cannot write"),
    ]


def test_an_image_that_cannot_be_pulled_is_missing_and_pinning_corrects_one_of_another_clone(subject):
    visited = subject({})
    own = next(one for one in images.used(visited) if one.namespace == "kubeflow")
    row = images._pull(subject({own.probe: Outcome("unpulled", reason="cannot be pulled")}), own)
    assert (row.state, row.fix.split(" &&")[0]) == ("missing", "make images")
    other = images.Used("lorry", "localhost/lorry/chat:another")
    row = images._pull(subject({other.probe: Outcome("unpulled", reason="cannot be pulled")}), other)
    assert row.fix.startswith("lorry pin ")
    row = images._pull(subject({own.probe: Outcome("unplaced", reason="no node takes it")}), own)
    assert (row.state, row.found.endswith("not probed: no node takes it")) == ("warning", True)


def test_processors_without_avx2_are_slow(subject):
    (row,) = images.processors(subject({"processor of node1": Outcome("succeeded", "avx avx2 fma")}))
    assert (row.state, row.found) == ("ok", "amd64 avx avx2 fma")
    (row,) = images.processors(subject({"processor of node1": Outcome("succeeded", "avx")}))
    assert row.state == "warning"
    assert "without AVX2" in row.found


def run_script(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_script_of_the_store_says_what_the_store_says(tmp_path):
    (tmp_path / "models").mkdir()
    assert run_script(scripts.STORE, str(tmp_path)).stdout == "reached; it has no model yet\n"
    done = run_script(scripts.STORE, f"{tmp_path}/elsewhere")
    assert done.returncode == 1
    assert "no such folder" in done.stderr.splitlines()[-1]


def test_the_script_of_the_claims_names_the_one_that_cannot_be_written():
    done = run_script(scripts.CLAIMS, "no-such-claim")
    assert done.returncode == 1
    assert done.stderr.startswith("no-such-claim: user ")
    assert "cannot write (No such file or directory)" in done.stderr


def test_the_script_of_the_processor_prints_features_of_this_machine():
    assert "avx" in run_script(scripts.PROCESSOR).stdout.split() or not Path("/proc/cpuinfo").read_text().count(" avx ")
