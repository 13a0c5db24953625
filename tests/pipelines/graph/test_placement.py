"""The compiled document: what a cluster is told about each step, and that one machine runs the same document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from components.errors import RecipeError
from pipelines.config.pools import Placement
from pipelines.config.recipe import load_recipe
from pipelines.graph.finetune import compile_finetune
from pipelines.graph.images import ImageSettings, load_settings, reference
from pipelines.local.workdir import read_result
from tests.conftest import TinyRun, run_lorry

GPU_STEPS = ("train-lora", "evaluate")
CPU_STEPS = ("split-data", "export-gguf", "publish-model")
IMAGES = {
    "split-data": "data", "train-lora": "train", "evaluate": "train", "export-gguf": "export", "publish-model": "data",
}  # fmt: skip


class Document:
    """A compiled document, by step."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.spec, *platform = YAML(typ="safe", pure=True).load_all(self.text)
        self.platform = platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platform else {}

    def container(self, step: str) -> dict[str, Any]:
        """Image, command and resources."""
        container: dict[str, Any] = self.spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
        return container

    def pod(self, step: str) -> dict[str, Any]:
        """What only Kubernetes knows."""
        pod: dict[str, Any] = self.platform[f"exec-{step}"]
        return pod

    def task(self, step: str) -> dict[str, Any]:
        """The node of the graph."""
        task: dict[str, Any] = self.spec["root"]["dag"]["tasks"][step]
        return task


def compiled(tmp_path: Path, placement: Placement, claims: tuple[str, ...] = ()) -> Document:
    path = tmp_path / "finetune.yaml"
    compile_finetune(path, placement, claims)
    return Document(path)


def test_a_step_knows_its_run_by_variables_that_are_no_inputs(tmp_path):
    """What Kubeflow reuses a step by are its inputs, image and command."""
    path = tmp_path / "finetune.yaml"
    compile_finetune(path, Placement(), ("lorry-store",), store="pvc://lorry-store/team")
    document = Document(path)
    for step in (*GPU_STEPS, *CPU_STEPS):
        (field,) = document.pod(step)["fieldPathAsEnv"]
        assert field == {"name": "LORRY_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        variables = {one["name"]: one["value"] for one in document.container(step)["env"]}
        assert variables["LORRY_RUN_STORE"] == "/volumes/lorry-store/team"
        given = document.task(step)["inputs"]["parameters"]
        assert step == "publish-model" or "{{$.pipeline_job_uuid}}" not in str(given)


@pytest.mark.parametrize(
    ("pool", "label", "shared_memory", "memory"),
    [("t4", "nvidia-tesla-t4", "2Gi", "12Gi"), ("a100", "nvidia-tesla-a100", "8Gi", "64Gi")],
)
def test_a_gpu_pool_places_training_and_evaluation_and_nothing_else(tmp_path, pool, label, shared_memory, memory):
    document = compiled(tmp_path, Placement(pool=pool))
    for step in GPU_STEPS:
        resources, pod = document.container(step)["resources"], document.pod(step)
        assert resources["accelerator"] == {
            "count": "1", "resourceCount": "1", "resourceType": "nvidia.com/gpu", "type": "nvidia.com/gpu",
        }  # fmt: skip
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"] == memory
        assert pod["nodeSelector"] == {"labels": {"cloud.google.com/gke-accelerator": label}}
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        (shared,) = pod["emptyDirMounts"]
        assert (shared["mountPath"], shared["medium"], shared["sizeLimit"]) == ("/dev/shm", "Memory", shared_memory)
    for step in CPU_STEPS:
        assert "accelerator" not in document.container(step)["resources"]
        assert not {"nodeSelector", "tolerations", "emptyDirMounts"} & set(document.pod(step))


def test_every_step_retries_within_the_whole_budget_and_then_ends(tmp_path):
    document = compiled(tmp_path, Placement(pools={"t4": {"timeout_minutes": 2880, "max_retries": 40}}))
    for step in (*GPU_STEPS, *CPU_STEPS):
        seconds = 2880 * 60 if step in GPU_STEPS else 1440 * 60
        assert document.pod(step)["activeDeadlineSeconds"] == str(seconds)
        assert document.task(step)["retryPolicy"] == {
            "backoffDuration": "60s",
            "backoffFactor": 1.0,
            "backoffMaxDuration": f"{seconds}s",
            "maxRetryCount": 40 if step in GPU_STEPS else 3,
        }


def mounts(document: Document, step: str) -> dict[str, str]:
    return {mount["mountPath"]: mount["constant"] for mount in document.pod(step)["pvcMount"]}


def test_volumes_and_secrets_are_named_and_only_training_has_the_checkpoints(tmp_path):
    document = compiled(tmp_path, Placement(hub_cache_claim="cache"), ("lorry-store",))
    everywhere = {"/hub-cache": "cache", "/volumes/lorry-store": "lorry-store"}
    for step in (*GPU_STEPS, *CPU_STEPS):
        own = {"/checkpoints": "lorry-checkpoints"} if step == "train-lora" else {}
        assert mounts(document, step) == {**everywhere, **own}
        secrets = {secret["secretName"]: secret for secret in document.pod(step)["secretAsEnv"]}
        registry = {"lorry-oci"} if step == "publish-model" else set()
        assert set(secrets) == {"lorry-hub", "lorry-store"} | registry
        assert all(secret["optional"] for secret in secrets.values())
        environment = {variable["name"]: variable["value"] for variable in document.container(step)["env"]}
        assert environment.pop("LORRY_GPUS", "0") == ("1" if step in GPU_STEPS else "0")
        assert environment == {"HF_HOME": "/hub-cache/huggingface", "LORRY_CACHE": "/hub-cache"}
        assert document.pod(step)["securityContext"] == {
            "runAsUser": "10001",
            "runAsGroup": "10001",
            "runAsNonRoot": True,
        }


def test_images_are_named_by_content_and_nothing_is_installed_at_run_time(tmp_path):
    document = compiled(tmp_path, Placement())
    for step, image in IMAGES.items():
        container = document.container(step)
        assert container["image"] == reference(image, load_settings())
        assert not container["image"].endswith((":latest", f"/{image}"))
        words = " ".join(container["command"])
        assert "pip" not in words
        assert "install" not in words
    assert document.task("publish-model")["cachingOptions"] == {}, "its pointer moves at every run"
    assert document.task("train-lora")["cachingOptions"] == {"enableCache": True}


def test_a_recipe_overrides_labels_taints_and_sizes_of_a_pool(tmp_path, tiny_run):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        tiny_run.recipe.read_text()
        + "placement:\n  pool: a100\n  image_pull_secret: registry\n  pools:\n    a100:\n"
        + "      node_selector: {nvidia.com/gpu.product: NVIDIA-A100-SXM4-40GB}\n      gpus: 2\n      spot: true\n"
        + "      tolerations: [{key: dedicated, operator: Equal, value: gpu, effect: NoExecute}]\n"
    )
    document = compiled(tmp_path, load_recipe(recipe).placement)
    pod = document.pod("train-lora")
    assert pod["nodeSelector"]["labels"] == {
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
        "cloud.google.com/gke-spot": "true",
    }
    assert pod["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoExecute"},
        {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
    ]
    assert pod["imagePullSecret"][0]["secretName"] == "registry"
    resources = document.container("train-lora")["resources"]
    assert resources["accelerator"]["resourceCount"] == "2"
    assert resources["resourceMemoryLimit"] == "64Gi", "what is not said stays as it is"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("  pool: v100\n", "placement: pool 'v100' is none of small, cpu, t4, a100"),
        ("  pools:\n    t4: {gpu: 2}\n", "placement.pools.t4.gpu: unknown key; did you mean gpus?"),
        ("  pools:\n    t4: {memory: 12 GB}\n", "placement.pools.t4.memory = '12 GB': string should match pattern"),
        ("  pools:\n    t4: {memory: 16}\n", "input should be a valid string (requested, and the limit, with its unit"),
        ("  pools:\n    t4: {memory: '16'}\n", "placement.pools.t4.memory = '16': string should match pattern"),
        ("  pools:\n    t4: {cpu: 0}\n", "placement.pools.t4.cpu = '0': string should match pattern"),
        ("  pools:\n    t4: {node_selector: {bad label: x}}\n", "placement.pools.t4.node_selector.bad label"),
        ("  pools:\n    t4: {tolerations: [{key: a, effect: No}]}\n", "placement.pools.t4.tolerations.0.effect = 'No'"),
        ("  pools:\n    t4: {tolerations: [{key: a, operator: Equal}]}\n", "operator Equal needs a value"),
        ("  checkpoints_claim: My_Claim\n", "placement.checkpoints_claim = 'My_Claim': string should match pattern"),
    ],
)
def test_a_wrong_placement_is_told_with_its_key(tmp_path, tiny_run, section, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_run.recipe.read_text() + "placement:\n" + section)
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert message in str(caught.value)


def test_every_mistake_of_a_pool_is_told(tmp_path, tiny_run):
    recipe = tmp_path / "recipe.yaml"
    pools = "placement:\n  pools:\n    big:\n      gpus: -1\n      memory: 12GB\n      cpu: 4\n      node_selectr: {}\n"
    recipe.write_text(tiny_run.recipe.read_text() + pools)
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    told = str(caught.value).splitlines()
    assert len(told) == 3
    assert "placement.pools.big.gpus = -1: input should be greater than or equal to 0 (GPUs a step)" in told[0]
    assert "placement.pools.big.node_selectr: unknown key; did you mean node_selector?" in told[2]


@pytest.mark.parametrize("output", ["nowhere/out.yaml", "out.json"])
def test_an_output_that_cannot_be_written_is_told(tmp_path, tiny_run, output):
    done = run_lorry("compile", tiny_run.recipe, "--output", tmp_path / output)
    assert done.stderr.strip() == (
        f"error: --output {tmp_path / output}: give the path of a .yaml file in a folder that is there"
    )


def test_compile_writes_the_document_of_the_named_pool(tmp_path, tiny_run):
    output = tmp_path / "out.yaml"
    done = run_lorry("compile", tiny_run.recipe, "--pool", "a100", "--output", output)
    assert done.returncode == 0, done.stderr
    assert "nvidia-tesla-a100" in output.read_text()


def test_the_tag_latest_is_refused(tmp_path, tiny_run):
    done = run_lorry("compile", tiny_run.recipe, "--output", tmp_path / "out.yaml", LORRY_TAG="latest")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: image tag 'latest' is refused: it moves, and Kubeflow reuses a step by the name"
    )


def test_the_same_document_runs_on_this_machine_to_a_gguf(tiny_run: TinyRun, tmp_path: Path):
    """The engine of `lorry run`, given the document that a T4 pool gets."""
    document = tmp_path / "finetune.yaml"
    compile_finetune(document, Placement(pool="t4"))
    job = {
        **json.loads((tiny_run.run_folder / "job.json").read_text()),
        "document": str(document),
        "pipeline_root": str(tmp_path / "steps"),
        "cache_root": str(tmp_path / "cache"),
        "outputs": str(tmp_path / "outputs.jsonl"),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "pipelines.local.engine", str(tmp_path / "job.json")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as engine:
        assert engine.stdout is not None
        said = engine.stdout.read().decode()
        assert engine.wait() == 0, said
    result = read_result(tmp_path)
    assert result is not None
    assert result.model.read_bytes()[:4] == b"GGUF"


def test_a_registry_with_a_port_is_taken():
    settings = ImageSettings(
        registry="registry.example:5000/lorry", base_image="debian", platform="linux/amd64", torch="cpu", tag="1.2.3"
    )
    assert reference("chat", settings) == "registry.example:5000/lorry/chat:1.2.3"
