"""`lorry doctor` as a command: exit status, JSON, and input that cannot be used."""

from __future__ import annotations

import json
import os

from tests.conftest import free_port, run_lorry
from tests.pipelines.cluster.doctor.recorded_cluster import LOCAL, NODES, RecordedCluster


def test_json_and_exit_status_1_where_something_is_missing(tmp_path, monkeypatch):
    RecordedCluster().install(tmp_path, monkeypatch)
    done = run_lorry("doctor", "--overlay", LOCAL, "--pool", "t4", "--json", **os.environ)
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    assert {row["state"] for row in rows} == {"ok", "warning", "missing"}
    assert all(set(row) == {"group", "check", "state", "found", "fix"} for row in rows)


def test_exit_status_0_where_there_are_warnings_alone(tmp_path, monkeypatch):
    cluster = RecordedCluster()
    cluster.named(NODES, "node1")["status"]["allocatable"]["cpu"] = "8"
    cluster.install(tmp_path, monkeypatch)
    done = run_lorry("doctor", "--pool", "t4", **os.environ)
    missing = [line for line in done.stdout.splitlines() if line.startswith("missing")]
    assert (done.returncode, missing) == (0, []), done.stdout
    assert "warnings, 0 missing" in done.stdout


def test_a_cluster_that_is_not_there_is_one_line(tmp_path):
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "jane"}}],
        "users": [{"name": "jane", "user": {}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    done = run_lorry("doctor", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert done.returncode == 1
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the kubeconfig's current context: the cluster does not answer (")


def test_folders_that_are_no_overlay_are_named(tmp_path):
    done = run_lorry("doctor", "--overlay", tmp_path)
    assert done.stderr == (
        f"error: {tmp_path}: no overlay (no kustomization.yaml); name a folder such as manifests/overlays/local\n"
    )
    (tmp_path / "kustomization.yaml").write_text("resources: []\n")
    done = run_lorry("doctor", "--overlay", tmp_path)
    assert done.stderr == (
        f"error: {tmp_path}/pinned: no such folder; copy it from manifests/overlays/local, then: lorry pin {tmp_path}\n"
    )
