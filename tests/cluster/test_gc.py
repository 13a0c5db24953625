"""``lorry gc`` on a real cluster: a claim's volume listed and cleaned by its Job, in a namespace that is restricted."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator

import pytest

from pipelines.graph.images import load_settings, reference
from tests.cluster.cluster import Cluster, storage_class
from tests.conftest import run_lorry

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no cluster: KUBECONFIG is not set"),
]

CLAIM, KEYS = "checkpoints", ("0123456789abcdef", "fedcba9876543210")
FILL = "".join(
    f"mkdir -p /volume/{key}/checkpoint-1 && touch /volume/{key}/writer.lock && "
    f"touch -d '{age}' /volume/{key}/checkpoint-1 /volume/{key}/writer.lock /volume/{key} && "
    for key, age in zip(KEYS, ("40 days ago", "1 hour ago"), strict=True)
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A namespace with a claim that holds an old and a young checkpoint folder."""
    with Cluster(f"lorry-test-{uuid.uuid4().hex[:8]}").made() as cluster:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **storage_class()}
        cluster.apply(
            [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": spec}]
        )
        cluster.finish(_fill(), 300)
        yield cluster


def _fill() -> dict[str, object]:
    container = {
        "name": "fill",
        "image": reference("data", load_settings()),
        "command": ["sh", "-c", f"{FILL}echo filled"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    security = {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    volume = {"name": "volume", "persistentVolumeClaim": {"claimName": CLAIM}}
    pod = {"restartPolicy": "Never", "securityContext": security, "containers": [container], "volumes": [volume]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "fill"}, "spec": spec}


def test_a_volume_is_listed_then_cleaned_and_no_job_is_left(cluster):
    flags = (f"pvc://{CLAIM}", "--namespace", cluster.namespace, "--keep", "0", "--json")
    listed = run_lorry("gc", *flags)
    assert listed.returncode == 0, listed.stderr
    goes = {one["name"]: one["goes"] for one in json.loads(listed.stdout)["items"]}
    assert goes == {KEYS[0]: True, KEYS[1]: False}
    done = run_lorry("gc", *flags, "--delete", "--yes")
    assert [one["kept_because"] for one in json.loads(done.stdout)["outcomes"]] == [None], done.stderr
    again = json.loads(run_lorry("gc", *flags).stdout)["items"]
    assert [one["name"] for one in again] == [KEYS[1]]
    assert [one["metadata"]["name"] for one in cluster.get("jobs")["items"]] == ["fill"]
