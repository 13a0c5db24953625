"""On a real cluster, the one that KUBECONFIG names: the batch images do the demo's steps, and the overlay serves.

The images must be where the cluster finds them (`make images`, then load or push them), with the registry and base of
the environment. LORRY_TEST_STORAGE_CLASS names a storage class, LORRY_TEST_POOL a pool that the cluster has nodes for.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.storage.digests import sha256_of
from pipelines.cluster.deploy.pin import pin_overlay
from pipelines.config.recipe import load_recipe
from pipelines.graph.finetune import compile_finetune
from pipelines.graph.placement import CHECKPOINTS
from pipelines.resolve.resolved_recipe import resolve
from tests.chat_visitor import Visitor
from tests.cluster.cluster import Cluster, storage_class, until
from tests.cluster.kubeflow_step import Steps
from tests.conftest import CHATS, ROOT
from tests.manifests.rendering import render

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no cluster: KUBECONFIG is not set"),
]

STORE = "/volumes/lorry-store"
POOL = os.environ.get("LORRY_TEST_POOL", "cpu")
STEPS = ("split-data", "train-lora", "evaluate", "export-gguf", "evaluate-gguf", "gate", "publish-model")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(f"lorry-test-{uuid.uuid4().hex[:8]}").made() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def manifests(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the manifests whose overlay without a bucket is for this cluster's namespace."""
    folder = tmp_path_factory.mktemp("manifests") / "manifests"
    shutil.copytree(ROOT / "manifests", folder)
    overlay = folder / "overlays" / "volume"
    for path in (overlay, overlay / "pipelines", overlay / "store-shell"):
        kustomization = path / "kustomization.yaml"
        text = kustomization.read_text().replace("namespace: kubeflow", f"namespace: {cluster.namespace}")
        kustomization.write_text(text)
    pin_overlay(overlay, None, None)
    return folder


@pytest.fixture(scope="module")
def volumes(cluster: Cluster, manifests: Path) -> None:
    """The claims of pipeline runs and of the store, made writable by the one-shot Job."""
    shell, pipelines = (render(manifests / "overlays" / "volume" / name) for name in ("store-shell", "pipelines"))
    for claim in (one for one in [*shell, *pipelines] if one["kind"] == "PersistentVolumeClaim"):
        claim["spec"] |= storage_class()
        claim["spec"]["resources"]["requests"]["storage"] = "2Gi"
    cluster.apply([*shell, *(one for one in pipelines if one["kind"] != "Job")])
    (job,) = [one for one in pipelines if one["kind"] == "Job"]
    said = cluster.finish(job, 300)
    assert "/checkpoints: user 10001 can write" in said
    assert "/hub-cache: user 10001 can write" in said
    cluster.kubectl("wait", "--for=condition=Ready", "pod/store-shell", "--timeout=180s")


@pytest.fixture(scope="module")
def steps(cluster: Cluster, volumes: None, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The demo's data and a tiny base in the store, and the document of a recipe that names them there."""
    folder = tmp_path_factory.mktemp("recipe")
    recipe_path = folder / "recipe.yaml"
    local = (
        f"name: on-a-cluster\nbase_model: {tiny_base}\nsplit:\n  data: {CHATS}\n  limit: 60\n  validation_rows: 4\n"
        "  test_rows: 2\ntrain:\n  max_steps: 4\n  max_length: 128\n  eval_steps: 2\n  save_steps: 2\n"
        "export:\n  quantization: Q8_0\npublish:\n  store: pvc://lorry-store\nplacement:\n"
        f"  pool: {POOL}\n  pools:\n"
        + "".join(f"    {pool}: {{cpu: 500m, memory: 3Gi}}\n" for pool in dict.fromkeys(("cpu", POOL)))
    )
    recipe_path.write_text(local)
    resolved = resolve(load_recipe(recipe_path), folder, print)
    base, data = f"base-models/{resolved.base_model.revision}", f"inputs/{sha256_of(CHATS)}/chats.jsonl"
    cluster.kubectl(
        "exec", "store-shell", "--", "mkdir", "-p", f"{STORE}/base-models", f"{STORE}/{data.rpartition('/')[0]}"
    )
    cluster.kubectl("cp", str(tiny_base), f"store-shell:{STORE}/{base}")
    cluster.kubectl("cp", str(CHATS), f"store-shell:{STORE}/{data}")
    there = resolved.with_addresses(
        {"base_model": f"pvc://lorry-store/{base}", "split.data": f"pvc://lorry-store/{data}"}
    )
    document = folder / "finetune.yaml"
    compile_finetune(document, load_recipe(recipe_path).placement, ("lorry-store",))
    return Steps(document, there.arguments(CHECKPOINTS), f"{STORE}/artifacts")


@pytest.fixture(scope="module")
def published(cluster: Cluster, steps: Steps) -> dict[str, Any]:
    """The manifest of the model that the five steps made, each as a Job with the pool's placement."""
    for step in STEPS:
        said = cluster.finish(steps.job(step))
        assert f"{step.replace('-', '_')} done in" in said, said
        steps.learn(cluster.kubectl("exec", "store-shell", "--", "cat", steps.output_file(step)))
    current = json.loads(cluster.kubectl("exec", "store-shell", "--", "cat", f"{STORE}/models/current.json"))
    manifest = f"{STORE}/models/{current['sha256']}/model.json"
    return dict(json.loads(cluster.kubectl("exec", "store-shell", "--", "cat", manifest)))


def test_a_pod_that_runs_as_root_is_refused_so_the_namespace_enforces(cluster):
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        cluster.kubectl("run", "root", "--image=localhost/none")


def test_each_batch_image_does_its_step_on_its_pool(cluster, steps, published):
    assert published["quantization"] == "Q8_0"
    nodes = {one["metadata"]["name"]: one["metadata"]["labels"] for one in cluster.get("nodes")["items"]}
    for pod in cluster.get("pods", "--selector=job-name")["items"]:
        wanted = pod["spec"].get("nodeSelector", {})
        assert wanted.items() <= nodes[pod["spec"]["nodeName"]].items()
    (training,) = cluster.get("pods", "--selector=job-name=train-lora")["items"]
    limits = training["spec"]["containers"][0]["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == (None if POOL == "cpu" else "1")
    checkpoints = steps.job("train-lora")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert "/checkpoints" in {mount["mountPath"] for mount in checkpoints}


@pytest.fixture(scope="module")
def serving(cluster: Cluster, manifests: Path, published: dict[str, Any]) -> str:
    """The overlay, applied with the published model; gives the model's digest."""
    overlay = manifests / "overlays" / "volume"
    pin_overlay(overlay, published["sha256"], None)
    cluster.kubectl("apply", "-k", str(overlay))
    for name in ("model-server", "chat"):
        cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")
    return str(published["sha256"])


ASK = """
import json, urllib.request
address = "http://model-server:8080/v1"
model = json.load(urllib.request.urlopen(address + "/models"))["data"][0]["id"]
body = {"model": model, "messages": [{"role": "user", "content": "What is Lorry?"}], "max_tokens": 8}
request = urllib.request.Request(
    address + "/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
print(urllib.request.urlopen(request).read().decode())
"""


def ask(cluster: Cluster) -> dict[str, Any]:
    """One answer over the Service, asked from another pod."""
    return dict(json.loads(cluster.kubectl("exec", "store-shell", "--", "python3", "-c", ASK)))


def server_pods(cluster: Cluster) -> list[dict[str, Any]]:
    selector = "--selector=app.kubernetes.io/instance=model-server"
    return list(cluster.get("pods", selector, "--field-selector=status.phase=Running")["items"])


def test_the_overlay_serves_the_model_that_its_template_names(cluster, serving):
    answer = ask(cluster)
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer["usage"]["completion_tokens"] > 0
    (pod,) = server_pods(cluster)
    assert pod["metadata"]["annotations"]["lorry/model-sha256"] == serving
    said = cluster.kubectl("logs", pod["metadata"]["name"], "--container=fetch-model")
    assert f"the sha256 is {serving}, as expected" in said
    with pytest.raises(AssertionError, match="Read-only file system"):
        cluster.kubectl("exec", pod["metadata"]["name"], "--container=model-server", "--", "touch", "/app/x")


def test_the_page_shows_and_its_server_is_the_service(cluster, serving):
    with cluster.forwarded("chat", 80) as address:
        page = httpx.get(address, timeout=30)
    assert page.status_code == 200
    assert "Lorry chat" in page.text
    assert "servers: http://model-server:8080/v1" in cluster.log_of("deployment/chat")


def test_conversations_outlive_the_pod_of_the_page(cluster, serving):
    """They, and the key that signs cookies, are on the claim; a visitor whose cookie is another's sees nothing."""
    model, cookies = ask(cluster)["model"], httpx.Cookies()

    async def visit(cookies: httpx.Cookies, *questions: str) -> str:
        with cluster.forwarded("chat", 80) as address:
            async with httpx.AsyncClient(timeout=120, cookies=cookies) as client:
                visitor = Visitor(address, client, model)
                shown = await visitor.arrive()
                for question in questions:
                    assert [text async for text in visitor.ask(question)][-1].strip()
                cookies.update(client.cookies)
                return shown

    asyncio.run(visit(cookies, "Does this outlive a pod?"))
    (before,) = cluster.get("pods", "--selector=app.kubernetes.io/instance=chat")["items"]
    cluster.kubectl("delete", "pod", before["metadata"]["name"])
    cluster.kubectl("rollout", "status", "deployment/chat", "--timeout=300s")
    assert "Does this outlive a pod?" in asyncio.run(visit(cookies))
    assert "Does this outlive a pod?" not in asyncio.run(visit(httpx.Cookies()))


def test_a_pod_that_is_killed_while_serving_is_replaced(cluster, serving):
    (before,) = server_pods(cluster)
    cluster.kubectl("delete", "pod", before["metadata"]["name"], "--grace-period=0", "--force")

    def replaced() -> bool:
        uids = {pod["metadata"]["uid"] for pod in server_pods(cluster)}
        status = cluster.get("deployment", "model-server")["status"]
        return before["metadata"]["uid"] not in uids and status.get("readyReplicas") == 1

    until(replaced, 300, lambda: cluster.kubectl("describe", "pods"))
    assert ask(cluster)["usage"]["completion_tokens"] > 0


def test_a_model_that_the_store_does_not_hold_does_not_take_over(cluster, serving, manifests):
    """The rollout waits with its reason in the log, the old pod goes on serving, and undo brings the old model back."""
    overlay = manifests / "overlays" / "volume"
    pin_overlay(overlay, "e" * 64, None)
    cluster.kubectl("apply", "-k", str(overlay))
    selector = "--selector=app.kubernetes.io/instance=model-server"

    def refused() -> bool:
        for pod in cluster.get("pods", selector)["items"]:
            if pod["metadata"]["annotations"]["lorry/model-sha256"] != serving:
                try:
                    return f"no model {'e' * 64}; it holds {serving}" in cluster.kubectl(
                        "logs", pod["metadata"]["name"], "--container=fetch-model"
                    )
                except AssertionError:  # not started yet
                    return False
        return False

    until(refused, 120, lambda: cluster.kubectl("describe", "pods", selector))
    assert ask(cluster)["usage"]["completion_tokens"] > 0
    cluster.kubectl("rollout", "undo", "deployment/model-server")
    cluster.kubectl("rollout", "status", "deployment/model-server", "--timeout=300s")
    (pod,) = server_pods(cluster)
    assert pod["metadata"]["annotations"]["lorry/model-sha256"] == serving


def test_a_volume_that_cannot_be_written_is_told_with_what_an_administrator_does(cluster, manifests, volumes):
    """The Job of the overlay over folders that are not the user's: what a class without fsGroup gives."""
    pipelines = render(manifests / "overlays" / "volume" / "pipelines")
    (job,) = [one for one in pipelines if one["kind"] == "Job"]
    job["metadata"]["name"] = "not-writable"
    job["spec"]["backoffLimit"] = 0
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["command"] = [*container["command"][:3], "/usr"]
    with pytest.raises(AssertionError, match=r"/usr: user 10001 with group 10001 cannot write to this volume"):
        cluster.finish(job, 120)
