"""Each fault is named by its row, with the command that corrects it: on answers recorded from a real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from components.errors import ClusterError
from pipelines.cluster.doctor.storage import IS_DEFAULT
from tests.pipelines.cluster.doctor.recorded_cluster import CLASSES, LOCAL, NODES, PODS, RecordedCluster, row_of

KEYS = "--output=go-template={{range $key, $value := .data}}{{$key}} {{end}}"
STORE_IN_LORRY = f"--namespace lorry get secret lorry-store {KEYS}"
COPY = "kubectl --namespace kubeflow get secret mlpipeline-minio-artifact '--output=go-template=AWS_ACCESS_KEY_ID="


@pytest.fixture
def cluster() -> RecordedCluster:
    return RecordedCluster()


def test_a_cluster_with_everything_lacks_only_what_the_overlay_has_not_pinned(cluster, tmp_path, monkeypatch):
    rows = cluster.rows(tmp_path, monkeypatch)
    missing = {(row.group, row.check): row.fix for row in rows if row.state == "missing"}
    pin = f"lorry pin {LOCAL}"
    assert missing == {("images", "chat in lorry"): pin, ("images", "model-server in lorry"): pin}
    assert row_of(rows, "kubeflow", "version").found == "Kubeflow Pipelines 2.17.0, for one user"
    assert row_of(rows, "pools", "pool t4").found.endswith("free now 8 cores, 32 GiB, 1 nvidia.com/gpu")
    # Nothing is said of what only a pod can find out, but how to find it out.
    for group, check in (("network", "hub"), ("network", "store from lorry"), ("storage", "writing in kubeflow")):
        row = row_of(rows, group, check)
        assert row.state == "warning"
        assert "--probe" in row.found


@dataclass(frozen=True)
class Fault:
    name: str
    make: Callable[[RecordedCluster], object]
    row: tuple[str, str]
    found: str
    fix: str
    state: str = "missing"


def no_default(cluster: RecordedCluster) -> None:
    cluster.named(CLASSES, "standard")["metadata"]["annotations"][IS_DEFAULT] = "false"


def failed_job(cluster: RecordedCluster) -> None:
    job = cluster.get("kubeflow", "job", "lorry-prepare-volumes")
    job["status"]["conditions"] = [{"type": "FailureTarget", "status": "True"}, {"type": "Failed", "status": "True"}]


def unpulled_job(cluster: RecordedCluster) -> None:
    cluster.get("kubeflow", "job", "lorry-prepare-volumes")["status"].clear()
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}
    pod = {"status": {"containerStatuses": [{"image": "unpinned.invalid/lorry/data:1", "state": state}]}}
    command = "--namespace kubeflow get pods --selector=job-name=lorry-prepare-volumes --output=json"
    cluster.answers[command] = {"items": [pod]}


def quota(cluster: RecordedCluster, namespace: str, used: str = "0", **hard: str) -> None:
    status = {"used": dict.fromkeys(hard, used)}
    found = {"metadata": {"name": "small"}, "spec": {"hard": hard}, "status": status}
    cluster.answers[f"--namespace {namespace} get resourcequotas --output=json"] = {"items": [found]}
    cluster.answers[f"--namespace {namespace} get limitranges --output=json"] = {"items": []}


def quota_of_claims(cluster: RecordedCluster) -> None:
    quota(cluster, "lorry", persistentvolumeclaims="0", **{"requests.storage": "512Mi"})
    cluster.remove("lorry", "persistentvolumeclaim", "chat-data")


def label_of_gpu(cluster: RecordedCluster) -> None:
    cluster.named(NODES, "gpu1")["metadata"]["labels"] = {"nvidia.com/gpu.product": "Tesla-T4"}


def taint_gpu(cluster: RecordedCluster) -> None:
    taint = {"key": "dedicated", "value": "teaching", "effect": "NoSchedule"}
    cluster.named(NODES, "gpu1")["spec"]["taints"].append(taint)


def small_node(cluster: RecordedCluster) -> None:
    cluster.named(NODES, "node1")["status"]["allocatable"]["cpu"] = "1"


HEALTH = "get --raw /api/v1/namespaces/kubeflow/services/ml-pipeline:8888/proxy/apis/v2beta1/healthz"


def policy_as(text: str) -> Callable[[RecordedCluster], None]:
    def write(cluster: RecordedCluster) -> None:
        cluster.get("kubeflow", "configmap", "workflow-controller-configmap")["data"] = {"workflowDefaults": text}

    return write


def old_policy(cluster: RecordedCluster) -> None:
    text = "spec: {templateDefaults: {retryStrategy: {limit: '2', retryPolicy: OnError}}}"
    cluster.get("kubeflow", "configmap", "workflow-controller-configmap")["data"]["workflowDefaults"] = text


FAULTS = [
    Fault(
        "no class", no_default, ("storage", "default class"),
        "none; lorry-checkpoints, lorry-hub-cache, chat-data would wait for one; there are standard",
        f"kubectl annotate --overwrite storageclass standard {IS_DEFAULT}=true",
    ),
    Fault(
        "no claim", lambda it: it.remove("kubeflow", "persistentvolumeclaim", "lorry-hub-cache"),
        ("storage", "claim lorry-hub-cache in kubeflow"), "does not exist",
        f"lorry pin {LOCAL} && kubectl --namespace kubeflow delete job lorry-prepare-volumes lorry-argo-retries "
        f"--ignore-not-found && kubectl apply -k {LOCAL}/pipelines",
    ),
    Fault(
        "a class that is not there",
        lambda it: it.get("lorry", "persistentvolumeclaim", "chat-data")["spec"].update(
            storageClassName="fast", volumeName=None
        ),
        ("storage", "claim chat-data in lorry"), "its storage class 'fast' does not exist, there are: standard; delete",
        "kubectl --namespace lorry delete persistentvolumeclaim chat-data --ignore-not-found",
    ),
    Fault(
        "a read-only claim",
        lambda it: it.get("lorry", "persistentvolumeclaim", "chat-data")["spec"].update(accessModes=["ReadOnlyMany"]),
        ("storage", "claim chat-data in lorry"), "it cannot be written; make it anew with ReadWriteOnce",
        "kubectl --namespace lorry delete persistentvolumeclaim chat-data",
    ),
    Fault(
        "volumes that cannot be written", failed_job, ("storage", "prepared volumes"),
        "the Job lorry-prepare-volumes failed: its log says which volume",
        "kubectl --namespace kubeflow logs job/lorry-prepare-volumes",
    ),
    Fault(
        "a Job whose image cannot be pulled", unpulled_job, ("storage", "prepared volumes"),
        "its image unpinned.invalid/lorry/data:1 cannot be pulled (no such host)", f"lorry pin {LOCAL} && kubectl",
    ),
    Fault("wrong label", label_of_gpu, ("pools", "pool t4"),
          "gpu1 has nvidia.com/gpu and nvidia.com/gpu.product=Tesla-T4: write its label into the recipe "
          "(placement.pools.t4.node_selector), or give the node the pool's",
          "kubectl label node gpu1 cloud.google.com/gke-accelerator=nvidia-tesla-t4"),
    Fault("taint", taint_gpu, ("pools", "pool t4"),
          "placement.pools.t4.tolerations: [{key: dedicated, operator: Equal, value: teaching, effect: NoSchedule}]",
          "kubectl taint node gpu1 dedicated=teaching:NoSchedule-"),
    Fault("no device plugin", lambda it: it.named(NODES, "gpu1")["status"]["allocatable"].pop("nvidia.com/gpu"),
          ("pools", "pool t4"), "gpu1: no nvidia.com/gpu to allocate; its device plugin is missing",
          "kubectl describe nodes gpu1"),
    Fault("no GPU node", lambda it: it.items(NODES).remove(it.named(NODES, "gpu1")), ("pools", "pool t4"),
          "no node has the labels cloud.google.com/gke-accelerator=nvidia-tesla-t4 and none has nvidia.com/gpu",
          "kubectl get nodes --show-labels"),
    Fault("no Secret", lambda it: it.answers.pop(STORE_IN_LORRY), ("secrets", "lorry-store in lorry"),
          "does not exist; s3://mlpipeline/lorry is Kubeflow's own store", COPY),
    Fault("no key", lambda it: it.answers.update({STORE_IN_LORRY: "AWS_ACCESS_KEY_ID AWS_ENDPOINT_URL "}),
          ("secrets", "lorry-store in lorry"), "has no AWS_SECRET_ACCESS_KEY;", COPY),
    Fault("quota", lambda it: quota(it, "lorry", **{"requests.cpu": "100m", "pods": "9"}), ("quota", "small in lorry"),
          "requests.cpu: 0.1 cores allowed, 0 cores used, 0.25 cores to come",
          """kubectl --namespace lorry patch resourcequota small --type=merge '--patch={"spec": {"hard": """
          """{"requests.cpu": "250m"}}}'"""),
    Fault("a quota of claims", quota_of_claims, ("quota", "small in lorry"),
          "persistentvolumeclaims: 0 allowed, 0 used, 1 to come; requests.storage: 512 MiB allowed, 0 GiB used, 1 GiB "
          "to come",
          """--patch={"spec": {"hard": {"persistentvolumeclaims": "1", "requests.storage": "1024Mi"}}}"""),
    Fault("a quota of limits that is used up", lambda it: quota(it, "lorry", used="1Gi", **{"limits.memory": "1Gi"}),
          ("quota", "small in lorry"), "limits.memory: 1 GiB allowed, 1 GiB used, 2 GiB to come",
          """--patch={"spec": {"hard": {"limits.memory": "3072Mi"}}}"""),
    Fault("a quota of limits that a step passes", lambda it: quota(it, "kubeflow", **{"limits.memory": "4Gi"}),
          ("quota", "small in kubeflow"), "limits.memory: 4 GiB allowed, 0 GiB used, 12 GiB to come",
          """--patch={"spec": {"hard": {"limits.memory": "12288Mi"}}}"""),
    Fault("a quota that refuses steps", lambda it: quota(it, "kubeflow", **{"limits.cpu": "8"}),
          ("quota", "small in kubeflow"), "it refuses pods without a limit of cores, and the steps of runs have none",
          "\"kind\": \"LimitRange\""),
    Fault("no namespace", lambda it: it.remove("", "namespace", "lorry"), ("namespaces", "lorry"), "it does not exist",
          f"kubectl apply -f {LOCAL}/namespace.yaml"),
    Fault("PSA", lambda it: it.get("", "namespace", "lorry")["metadata"].update(labels={}), ("namespaces", "lorry"),
          "Pod Security: enforces privileged",
          "kubectl label --overwrite namespace lorry pod-security.kubernetes.io/enforce=restricted", "warning"),
    Fault("old Kubernetes", lambda it: it.answers["version --output=json"]["serverVersion"].update(minor="27"),
          ("kubernetes", "version"), "Lorry was tried with 1.31 to 1.36", "", "warning"),
    Fault("Argo as it comes", old_policy, ("kubeflow", "retries"),
          "a step whose whole container was killed or whose node shut down is not tried again",
          rf"sed -i 's|^resources:|&\n  - ../../../components/argo-retries|' {LOCAL}/pipelines/kustomization.yaml && ",
          "warning"),
    Fault("a web page for Kubeflow's answer", lambda it: it.answers.update({HEALTH: "<html>\n<body>Sign in"}),
          ("kubeflow", "version"),
          "the Service ml-pipeline in kubeflow answers as no Kubeflow does: '<html> <body>Sign in'",
          "kubectl --namespace kubeflow get service,pods --output=wide"),
    Fault("a ConfigMap that is not YAML", policy_as("spec: {templateDefaults: ["), ("kubeflow", "retries"),
          "Argo's controller cannot read its ConfigMap workflow-controller-configmap (while parsing a flow ",
          "kubectl --namespace kubeflow edit configmap workflow-controller-configmap"),
    Fault("a ConfigMap with text for a mapping", policy_as("spec: none"), ("kubeflow", "retries"),
          "cannot read its ConfigMap workflow-controller-configmap (a text or a list where keys belong); correct it",
          "kubectl --namespace kubeflow edit configmap workflow-controller-configmap"),
    Fault("a small node", small_node, ("room", "a step on cpu"), "would wait forever: node1 has 0.11 cores", ""),
    Fault("no kind", lambda it: it.answers.update({"api-versions": "v1\napps/v1\npolicy/v1\n"}),
          ("kubernetes", "kind NetworkPolicy"), "the cluster does not serve networking.k8s.io/v1",
          "kubectl api-resources --api-group=networking.k8s.io"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_with_the_command_that_corrects_it(fault, cluster, tmp_path, monkeypatch):
    fault.make(cluster)
    row = row_of(cluster.rows(tmp_path, monkeypatch), *fault.row)
    assert row.state == fault.state
    assert fault.found in row.found
    assert row.fix.startswith(fault.fix) or fault.fix in row.fix
    assert bool(fault.fix) <= bool(row.fix)


def test_the_secret_is_copied_without_a_value_on_a_command_line(cluster, tmp_path, monkeypatch):
    cluster.answers.pop(STORE_IN_LORRY)
    fix = row_of(cluster.rows(tmp_path, monkeypatch), "secrets", "lorry-store in lorry").fix
    assert "--from-literal" not in fix
    assert "--from-env-file=/dev/stdin" in fix


def other_store(cluster: RecordedCluster) -> None:
    """Serve from a bucket that is not Kubeflow's own."""
    cluster.remove("kubeflow", "service", "seaweedfs")


def test_a_key_is_added_to_a_secret_that_exists_and_the_others_stay(cluster, tmp_path, monkeypatch):
    other_store(cluster)
    cluster.answers[STORE_IN_LORRY] = "AWS_ACCESS_KEY_ID AWS_REGION "
    row = row_of(cluster.rows(tmp_path, monkeypatch), "secrets", "lorry-store in lorry")
    assert row.state == "missing"
    assert row.found.startswith(
        "has no AWS_SECRET_ACCESS_KEY; for s3://mlpipeline/lorry, write AWS_SECRET_ACCESS_KEY=… into the file store.env"
    )
    make = "kubectl --namespace lorry create secret generic lorry-store --from-env-file=store.env"
    assert row.fix == (
        f"{make} --dry-run=client --output=yaml | kubectl --namespace lorry patch secret lorry-store "
        "--patch-file=/dev/stdin"
    )
    # What kubectl does with it, without a cluster.
    (tmp_path / "store.env").write_text("AWS_SECRET_ACCESS_KEY=new\n")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lorry-store"}, "data": {"KEPT": "eA=="}}
    (tmp_path / "secret.json").write_text(json.dumps(secret))
    local = row.fix.replace("patch secret lorry-store", "patch --local --filename=secret.json --output=json")
    monkeypatch.undo()
    done = subprocess.run(local, shell=True, cwd=tmp_path, check=True, capture_output=True)
    assert json.loads(done.stdout)["data"] == {"KEPT": "eA==", "AWS_SECRET_ACCESS_KEY": "bmV3"}


def test_a_secret_that_does_not_exist_is_made(cluster, tmp_path, monkeypatch):
    other_store(cluster)
    del cluster.answers[STORE_IN_LORRY]
    row = row_of(cluster.rows(tmp_path, monkeypatch), "secrets", "lorry-store in lorry")
    assert "write AWS_ACCESS_KEY_ID=…, AWS_SECRET_ACCESS_KEY=…, AWS_REGION=… into the file store.env" in row.found
    assert row.fix == "kubectl --namespace lorry create secret generic lorry-store --from-env-file=store.env"


PULL_SECRET = "--namespace kubeflow get secret registry-login --output=go-template={{.type}}"
MAKE_PULL_SECRET = (
    "kubectl --namespace kubeflow create secret generic registry-login --type=kubernetes.io/dockerconfigjson "
    "--from-file=.dockerconfigjson=registry-login.json"
)
LOGIN = "; write the registry's login into the file registry-login.json, in the form of ~/.docker/config.json"


@pytest.mark.parametrize(
    ("kind", "state", "found", "fix"),
    [
        (None, "missing", f"does not exist{LOGIN}", MAKE_PULL_SECRET),
        ("Opaque", "missing", f"is of the type Opaque, with which no node logs in to a registry{LOGIN}",
         f"kubectl --namespace kubeflow delete secret registry-login && {MAKE_PULL_SECRET}"),
        ("kubernetes.io/dockerconfigjson", "ok", "is of the type kubernetes.io/dockerconfigjson", ""),
    ],
)  # fmt: skip
def test_a_pull_secret_has_the_type_that_nodes_log_in_with(kind, state, found, fix, cluster, tmp_path, monkeypatch):
    if kind is not None:
        cluster.answers[PULL_SECRET] = kind
        keys = f"--namespace kubeflow get secret registry-login {KEYS}"
        cluster.answers[keys] = ".dockerconfigjson "
    rows = cluster.rows(tmp_path, monkeypatch, placement={"image_pull_secret": "registry-login"})
    row = row_of(rows, "secrets", "registry-login in kubeflow")
    assert (row.state, row.found, row.fix) == (state, found, fix)


def test_a_right_that_is_missing_is_a_row_with_verb_and_resource_and_the_others_go_on(cluster, tmp_path, monkeypatch):
    cluster.refuse(NODES, "list", "nodes")
    rows = cluster.rows(tmp_path, monkeypatch)
    pools = row_of(rows, "pools", "pools")
    assert pools.state == "warning"
    assert (
        pools.found == "not looked at: jane has no right to list nodes in the whole cluster; an administrator gives it"
    )
    assert pools.fix == (
        "kubectl create clusterrole lorry-jane-list-nodes --verb=list --resource=nodes --dry-run=client --output=yaml "
        "| kubectl apply -f - && kubectl create clusterrolebinding lorry-jane-list-nodes "
        "--clusterrole=lorry-jane-list-nodes --user=jane --dry-run=client --output=yaml | kubectl apply -f -"
    )
    assert row_of(rows, "room", "room to serve").state == "warning"
    assert row_of(rows, "storage", "default class").state == "ok"


def test_rights_to_apply_are_asked_for_each_resource(cluster, tmp_path, monkeypatch):
    cluster.answers["auth can-i * * --all-namespaces"] = "no\n"
    user = cluster.answers["auth whoami --output=json"]["status"]["userInfo"]
    user["username"] = "system:serviceaccount:teaching:jane"
    for verb in ("get", "list", "watch"):
        cluster.answers[f"--namespace kubeflow auth can-i {verb} pods"] = "yes\n"
    cluster.answers["--namespace kubeflow auth can-i get pods --subresource=log"] = "yes\n"
    rows = cluster.rows(tmp_path, monkeypatch)
    assert row_of(rows, "kubernetes", "rights in kubeflow").state == "ok"
    serving = row_of(rows, "kubernetes", "rights in lorry")
    assert serving.state == "missing"
    assert "get, list, watch, create, patch deployment.apps" in serving.found
    assert "--serviceaccount=teaching:jane" in serving.fix


def test_rights_to_deploy_are_a_lease_a_pod_and_a_forwarded_port(cluster, tmp_path, monkeypatch):
    cluster.answers["auth can-i * * --all-namespaces"] = "no\n"
    reading = [(verb, what) for what in ("pods", "replicasets.apps") for verb in ("get", "list", "watch")]
    for verb, what in [*reading, ("get", "pods --subresource=log"), *every_right_to_apply()]:
        cluster.answers[f"--namespace lorry auth can-i {verb} {what}"] = "yes\n"
    row = row_of(cluster.rows(tmp_path, monkeypatch), "kubernetes", "rights in lorry")
    assert row.state == "missing"
    assert row.found.endswith(
        "has no right to: get, create, update, delete leases.coordination.k8s.io; create, delete pods; "
        "create pods/portforward; an administrator gives it"
    )
    assert "--verb=create --resource=pods/portforward" in row.fix


def every_right_to_apply() -> list[tuple[str, str]]:
    kinds = ("configmap", "service", "serviceaccount", "persistentvolumeclaim", "deployment.apps",
             "networkpolicy.networking.k8s.io", "poddisruptionbudget.policy")  # fmt: skip
    return [(verb, kind) for kind in kinds for verb in ("get", "list", "watch", "create", "patch")]


def test_a_step_that_waits_for_running_steps_alone_is_a_warning(cluster, tmp_path, monkeypatch):
    step = {
        "containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
        "nodeName": "node1",
    }
    labels = {"pipeline/runid": "1234"}
    pod = {"metadata": {"name": "step", "namespace": "kubeflow", "labels": labels}, "spec": step, "status": {}}
    cluster.items(PODS).append(pod)
    rows = cluster.rows(tmp_path, monkeypatch)
    for check, asks in (
        ("a step on cpu", "a step on cpu asks for 0.6 cores, 6 GiB"),
        ("a roll-out", "model-server asks for 0.25 cores, 2 GiB"),
    ):
        row = row_of(rows, "room", check)
        assert (row.state, row.found) == ("warning", f"{asks}: waits until steps that run now end")


def test_servers_that_no_node_takes_are_missing_with_the_smaller_overlay(cluster, tmp_path, monkeypatch):
    """The overlay for Google's cloud asks for two cores each, of a node that has two."""
    cluster.items(PODS)[:] = [pod for pod in cluster.items(PODS) if pod["metadata"]["namespace"] != "lorry"]
    cluster.named(NODES, "node1")["metadata"]["labels"]["kubernetes.io/arch"] = "amd64"
    gke = LOCAL.parent / "gke"
    rows = cluster.rows(tmp_path, monkeypatch, overlay=gke)
    row = row_of(rows, "room", "serving")
    assert row.state == "missing"
    assert "model-server asks for 2 cores, 4 GiB" in row.found
    assert "would wait forever: node1 has 1.46 cores" in row.found
    assert row.fix == f"# write under components of {gke}/kustomization.yaml: - ../../components/one-machine"


def test_an_autoscaler_needs_an_adapter(cluster, tmp_path, monkeypatch):
    folder = tmp_path / "manifests"
    shutil.copytree(LOCAL.parents[1], folder)
    overlay = folder / "overlays" / "local"
    path = overlay / "kustomization.yaml"
    path.write_text(path.read_text().replace("  - pinned\n", "  - ../../components/autoscaling\n  - pinned\n"))
    cluster.answers["get apiservices.apiregistration.k8s.io --output=json"] = {"items": []}
    row = row_of(cluster.rows(tmp_path, monkeypatch, overlay), "autoscaling", "metrics adapter")
    assert row.state == "missing"
    assert row.found.startswith("no API custom.metrics.k8s.io: install an adapter such as prometheus-adapter")


def test_without_an_overlay_runs_alone_are_looked_at(cluster, tmp_path, monkeypatch):
    rows = cluster.rows(tmp_path, monkeypatch, overlay=None, pool="cpu")
    assert not [row for row in rows if "lorry" in row.check.split(" in ")[1:]]
    assert {row.check for row in rows if row.group == "room"} == {"a step on cpu", "a step on small"}


def test_a_cluster_that_does_not_answer_is_one_line(cluster, tmp_path, monkeypatch):
    cluster.answers.clear()
    cluster.errors["version --output=json"] = "The connection to the server 127.0.0.1:6443 was refused"
    with pytest.raises(ClusterError, match="current context: the cluster does not answer"):
        cluster.rows(tmp_path, monkeypatch)
