"""`lorry submit` against a server that speaks Kubeflow's API, and a bucket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import kfp_server_api
import pytest

from components.publish_model.config import PublishConfig
from components.publish_model.publish import publish_figures
from components.split_data.config import SplitConfig
from components.split_data.sources import read_batches
from components.storage.digests import sha256_of
from components.storage.store import Store
from pipelines.config.steps import RUN_STEPS, names_of
from tests.conftest import TinyRun, chat_rows, free_port, run_lorry, write_jsonl
from tests.pipelines.cluster.kubeflow_stand_in import DROP, RUN_ID, STORE, StandIn, kubeflow, submit, task

STEPS = names_of(RUN_STEPS)
NAMES = [step.replace("_", "-") for step in STEPS]


def test_the_run_has_the_document_the_arguments_and_its_inputs_in_the_store(recipe, bucket, tiny_run, tiny_base):
    with kubeflow(StandIn()) as server:
        done = submit(recipe, server, "--experiment", "mine", "--pool", "a100")
    assert done.returncode == 0, done.stderr
    assert f"submitted: {server.url}/#/runs/details/{RUN_ID}" in done.stdout
    (run,) = server.runs
    assert run["experiment_id"] == "experiment-mine"
    platform = run["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = platform["exec-train-lora"]["nodeSelector"]["labels"]
    assert labels == {"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}
    arguments = run["runtime_config"]["parameters"]
    data = f"inputs/{sha256_of(tiny_run.data)}/data.jsonl"
    assert arguments["split"]["data"] == f"{STORE}/{data}"
    assert arguments["publish"] == {"store": STORE}
    assert arguments["checkpoint_root"] == "/checkpoints"
    assert Store(STORE).read(data) == tiny_run.data.read_bytes()
    base = f"base-models/{arguments['base_model']['revision']}"
    assert arguments["base_model"]["address"] == f"{STORE}/{base}"
    weights = Store(STORE).read(f"{base}/model.safetensors")
    assert weights == (tiny_base / "model.safetensors").read_bytes()


def test_what_the_store_has_is_not_sent_again_and_an_experiment_is_not_made_twice(recipe, bucket):
    with kubeflow(StandIn()) as server:
        first = submit(recipe, server)
        second = submit(recipe, server)
    assert "data.jsonl: sending" in first.stdout
    assert "sending" not in second.stdout
    assert [known["display_name"] for known in server.experiments] == ["lorry"]
    assert len(server.runs) == 2


STARTED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def finished(name: str, seconds: int, **more: Any) -> kfp_server_api.V2beta1PipelineTaskDetail:
    return task(name, "SUCCEEDED", start_time=STARTED, end_time=STARTED + timedelta(seconds=seconds), **more)


def looks() -> list[Any]:
    """A run from its beginning to its end; its split was reused, and the endpoint stumbles on the way."""
    child = [kfp_server_api.PipelineTaskDetailChildTask(pod_name="pod-of-split-data")]
    reused = [finished("split-data", 3, child_tasks=child), task("executor", "SKIPPED", pod_name="pod-of-split-data")]
    done = [finished(name, 10 * place) for place, name in enumerate(NAMES[1:], start=1)]
    return [
        ("PENDING", []),
        ("RUNNING", [*reused, task("train-lora", "RUNNING")]),
        500,
        DROP,
        ("RUNNING", [*reused, done[0], task("evaluate", "RUNNING")]),
        ("SUCCEEDED", [*reused, *done]),
    ]


@pytest.fixture
def figures(tiny_run: TinyRun, bucket: str) -> dict[str, Any]:
    """What the last step of the pipeline leaves in the store: here the figures of a run on this machine."""
    measured = tiny_run.result.figures
    model = {"sha256": sha256_of(tiny_run.model), "store": STORE}
    publish_figures(PublishConfig(store=STORE), RUN_ID, {**measured, "model": model})
    return measured


def table_of(output: str) -> list[str]:
    """What the table says of each step, without its times."""
    rows = [line.split("│") for line in output.splitlines() if line.startswith("│")]
    return [f"{row[1].strip()}: {row[3].strip()}" for row in rows]


def test_wait_follows_the_steps_and_ends_with_the_table_of_a_local_run(recipe, figures, tiny_run):
    with kubeflow(StandIn(looks())) as server:
        done = submit(recipe, server, "--wait", "--look-seconds", "0.05")
    assert done.returncode == 0, done.stderr + done.stdout
    said = [line for line in done.stdout.splitlines() if line.startswith(STEPS)]
    assert said[:5] == [
        "split_data: unchanged, reused",
        "train_lora: started",
        "train_lora: finished in 10.0 s",
        "evaluate: started",
        "evaluate: finished in 20.0 s",
    ]
    assert "answers 500: the database is away" in done.stdout
    assert done.stdout.count("asking again") == 2
    assert table_of(done.stdout) == table_of(tiny_run.done.stdout)
    assert f"{STORE}/models/{sha256_of(tiny_run.model)}" in done.stdout


def test_a_step_that_fails_is_named_with_its_page(recipe, bucket):
    """Kubeflow's API gives no reason with a failed task; its page has the step's log."""
    end = ("FAILED", [finished("split-data", 3), task("root", "FAILED"), task("train-lora", "FAILED")])
    with kubeflow(StandIn([end])) as server:
        done = submit(recipe, server, "--wait", "--look-seconds", "0.05")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the run failed in train_lora; its log is not in the store (")
    assert done.stderr.endswith(f"its page: {server.url}/#/runs/details/{RUN_ID}\n")


def test_a_refused_token_says_which_variable_to_set(recipe, bucket):
    with kubeflow(StandIn(token="right")) as server:
        refused = submit(recipe, server, KFP_TOKEN="wrong")
        taken = submit(recipe, server, KFP_TOKEN="right")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {server.url}: refuses the token (401: Request header error")
    assert "set KFP_TOKEN to one that it takes; where it serves several users, give --namespace too" in refused.stderr
    assert taken.returncode == 0, taken.stderr


def test_a_token_that_expires_on_the_way_ends_the_wait_at_once(recipe, bucket):
    with kubeflow(StandIn([("RUNNING", []), 401])) as server:
        done = submit(recipe, server, "--wait", "--look-seconds", "0.05")
    assert done.returncode == 1
    assert "asking again" not in done.stdout
    assert "refuses the token (401: the database is away)" in done.stderr
    assert f"the run itself goes on: {server.url}/#/runs/details/{RUN_ID}" in done.stderr


def test_a_login_page_is_not_taken_for_kubeflow(recipe, bucket):
    with kubeflow(StandIn(login="page")) as server:
        page = submit(recipe, server)
    with kubeflow(StandIn(login="redirect")) as server:
        redirected = submit(recipe, server)
    assert "answers, but not as Kubeflow does: it is another server, or a login page; set KFP_TOKEN" in page.stderr
    assert "leads to a login page; set KFP_TOKEN to a valid token" in redirected.stderr
    assert page.returncode == redirected.returncode == 1


def test_a_token_with_a_line_end_is_taken_and_one_that_is_none_is_not_shown(recipe, bucket):
    with kubeflow(StandIn(token="right")) as server:
        assert submit(recipe, server, KFP_TOKEN="right\n").returncode == 0
        wrong = submit(recipe, server, KFP_TOKEN="sécret token")
    assert wrong.stderr.strip() == "error: KFP_TOKEN: holds characters that no token has; set it again"


def test_an_endpoint_that_is_no_address_is_told(recipe):
    done = run_lorry("submit", recipe, "--endpoint", "localhost:8081")
    assert done.stderr.strip() == (
        "error: --endpoint localhost:8081: not an address; it begins with http:// or https://"
    )


def test_a_namespace_that_does_not_exist_is_named(recipe, bucket):
    with kubeflow(StandIn(namespaces=["mine"])) as server:
        refused = submit(recipe, server, "--namespace", "yours")
        taken = submit(recipe, server, "--namespace", "mine")
    assert refused.stderr.strip() == (
        f"error: {server.url}: namespace 'yours': Namespace yours not found; name one that is there with --namespace"
    )
    assert taken.returncode == 0, taken.stderr
    assert server.experiments[0]["namespace"] == "mine"


def test_an_endpoint_that_does_not_answer_says_how_to_reach_one(recipe, bucket):
    server = StandIn()
    server.url = f"http://127.0.0.1:{free_port()}"
    done = submit(recipe, server)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {server.url}: does not answer (")
    assert "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8081:80" in done.stderr


def test_a_local_input_without_a_store_says_what_to_give(tiny_run):
    server = StandIn()
    server.url = "http://127.0.0.1:1"
    done = submit(tiny_run.recipe, server)
    assert done.stderr.strip() == (
        "error: publish.store is missing; a cluster needs a store that its pods reach: give --store, or publish.store "
        "in the recipe, as s3://bucket/folder, gs://bucket/folder or pvc://claim/folder"
    )


def test_a_local_input_beside_a_volume_says_the_command_that_puts_it_there(tiny_run, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_run.recipe.read_text() + "publish:\n  store: pvc://lorry-store/team\n")
    with kubeflow(StandIn()) as server:
        done = submit(recipe, server, "--namespace", "team")
    digest = sha256_of(tiny_run.data)
    place = f"lorry-store/team/inputs/{digest}/data.jsonl"
    assert f"kubectl -n team cp {tiny_run.data} store-shell:/volumes/{place} ; then set" in done.stderr
    assert f"split.data: pvc://{place} and split.data_revision: {digest}" in done.stderr


def test_a_bucket_that_does_not_exist_is_named(recipe, bucket):
    with kubeflow(StandIn()) as server:
        recipe.write_text(recipe.read_text().replace("s3://lorry/", "s3://nobodys/"))
        done = submit(recipe, server)
    assert done.stderr.strip() == ("error: s3://nobodys/store: no such bucket; create it, or correct its address")


def test_an_unknown_pool_names_the_known_ones(recipe):
    server = StandIn()
    server.url = "http://127.0.0.1:1"
    done = submit(recipe, server, "--pool", "v100")
    assert done.stderr.strip() == (
        "error: --pool v100: none of small, cpu, t4, a100; add it under placement.pools in the recipe"
    )


def test_every_source_and_leak_file_goes_into_the_store(recipe, bucket, tiny_base, tmp_path):
    (tmp_path / "chats").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        write_jsonl(tmp_path / "chats" / name, chat_rows(6))
    (tmp_path / "benchmark.txt").write_text("What is a lorry good for?\n")
    recipe.write_text(
        f"name: tiny\nbase_model: {tiny_base}\nsplit:\n  sources: [{{data: chats}}]\n  validation_rows: 2\n"
        f"  decontamination: {{files: [benchmark.txt]}}\n"
        f"  quality: {{max_perplexity: 1000}}\npublish:\n  store: {STORE}\n"
    )
    with kubeflow(StandIn()) as server:
        done = submit(recipe, server)
    assert done.returncode == 0, done.stderr
    (run,) = server.runs
    section = run["runtime_config"]["parameters"]["split"]
    folder = section["sources"][0]["data"]
    assert sorted(Store(folder).keys("")) == ["a.jsonl", "b.jsonl"]
    assert section["decontamination"]["files"][0].startswith(f"{STORE}/inputs/")
    assert section["base_model"]["address"].startswith(f"{STORE}/base-models/")
    executors = run["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert "/train:" in executors["exec-split-data"]["container"]["image"]
    arriving = SplitConfig.model_validate(section)
    assert sum(len(batch.records) for batch in read_batches(arriving.all_sources)) == 12
