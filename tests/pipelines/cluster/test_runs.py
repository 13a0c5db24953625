"""`lorry runs`: the list, which run is meant, cancel, retry, logs."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.errors import LorryError
from components.storage.run_notes import RUN_VARIABLE, STORE_VARIABLE, StepNote, write_note
from pipelines.cli import app
from tests.pipelines.cluster.kubeflow_stand_in import RUN_ID, STORE, StandIn, kubeflow
from tests.pipelines.cluster.test_follow import RECORDED, put_log, recorded

OTHER_ID = "3f2f9999-0000-4000-8000-000000000002"


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A Kubeflow with one run of Lorry's, which has succeeded."""
    with kubeflow(StandIn([recorded("run-succeeded")[-1]])) as server:
        yield server


def run(name: str, run_id: str, **more: Any) -> dict[str, Any]:
    """A run as the list of Kubeflow's API has it."""
    parameters = {"recipe": "tiny", "publish": {"store": STORE}}
    times = {"created_at": "2026-11-28T14:47:10Z", "finished_at": "2026-11-28T14:51:49Z"}
    return {
        "run_id": run_id,
        "display_name": name,
        "state": "SUCCEEDED",
        "runtime_config": {"parameters": parameters},
        **times,
        **more,
    }


def lorry(server: StandIn, *arguments: str, **environment: str) -> str:
    """What a command prints; the error of one that fails is raised."""
    done = CliRunner().invoke(app, [*arguments, "--endpoint", server.url], env=environment)
    if isinstance(done.exception, LorryError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def refusal(server: StandIn, *arguments: str, **environment: str) -> str:
    """The one line with which a command ends."""
    with pytest.raises(LorryError) as refused:
        lorry(server, *arguments, **environment)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_runs_are_listed_with_state_minutes_and_recipe(server):
    canceled = [{"state": "CANCELING"}, {"state": "FAILED"}]
    server.listed = [
        run("tiny-2", OTHER_ID, state="FAILED", state_history=canceled, recurring_run_id="b193"),
        run("hello", RUN_ID, runtime_config=None, finished_at="1970-01-01T00:00:00Z"),
        run("tiny-1", "5bd4ec55-0000-4000-8000-000000000003"),
    ]
    heading, *rows = lorry(server, "runs", "list").splitlines()
    assert heading.split("   ")[0].strip() == "NAME"
    assert rows[0].split() == ["tiny-2", "canceled", "2026-11-28", "14:47", "4.7", "tiny", OTHER_ID]
    assert rows[1].split() == ["hello", "succeeded", "2026-11-28", "14:47", "-", RUN_ID]
    listed = json.loads(lorry(server, "runs", "list", "--json"))
    assert listed[0] == {
        "name": "tiny-2",
        "state": "CANCELED",
        "created": "2026-11-28T14:47:10+00:00",
        "minutes": 4.7,
        "recipe": "tiny",
        "run_id": OTHER_ID,
        "schedule_id": "b193",
    }
    assert [one["recipe"] for one in listed] == ["tiny", None, "tiny"]
    assert json.loads(lorry(server, "runs", "list", "--json", "--limit", "1")) == listed[:1]


def test_a_canceled_run_that_was_tried_again_is_not_canceled(server):
    history = [{"state": state} for state in ("PENDING", "RUNNING", "CANCELING", "FAILED", "RUNNING", "FAILED")]
    server.listed = [run("again", RUN_ID, state="FAILED", state_history=history)]
    assert json.loads(lorry(server, "runs", "list", "--json"))[0]["state"] == "FAILED"


def test_a_sweep_is_listed_by_the_recipe_of_its_trials(server):
    server.listed = [recorded("sweep-succeeded")[0]]
    (one,) = json.loads(lorry(server, "runs", "list", "--json"))
    assert one["recipe"] == "demo (sweep, 6 trials)"


def test_a_list_longer_than_a_page_is_read_to_its_limit(server):
    server.listed = [run(f"tiny-{number}", f"{number:08x}-0000-4000-8000-000000000000") for number in range(120)]
    listed = json.loads(lorry(server, "runs", "list", "--json", "--limit", "110"))
    assert [one["name"] for one in listed] == [f"tiny-{number}" for number in range(110)]


def test_an_experiment_chooses_its_runs(server):
    server.experiments = [{"experiment_id": "e-1", "display_name": "mine"}]
    server.listed = [run("of-another", OTHER_ID, experiment_id="e-2"), run("of-mine", RUN_ID, experiment_id="e-1")]
    listed = json.loads(lorry(server, "runs", "list", "--json", "--experiment", "mine"))
    assert [one["name"] for one in listed] == ["of-mine"]
    assert refusal(server, "runs", "list", "--experiment", "none") == (
        f"--experiment none: {server.url} has no such experiment; leave it out to see all"
    )


def test_a_beginning_of_an_id_is_enough_where_one_run_has_it(server):
    server.looks = [recorded("run-succeeded")[0]]
    server.listed = [run("a", RUN_ID), run("b", OTHER_ID), run("c", f"00000000-{RUN_ID[9:]}")]
    lorry(server, "runs", "cancel", RUN_ID[:6].upper())
    assert server.terminated == [RUN_ID]
    assert refusal(server, "runs", "cancel", "3f2f") == (
        f"RUN 3f2f: 2 runs begin so; give more of the id: {RUN_ID} (a), {OTHER_ID} (b)"
    )
    assert refusal(server, "runs", "cancel", "3f2f7").startswith(f"RUN 3f2f7: {server.url} has no such run; it has: ")
    assert refusal(server, "runs", "follow", "tiny-1").startswith(
        "RUN 'tiny-1': not a run's id, the beginning of one, or latest; ids: lorry runs list"
    )


def test_latest_is_lorrys_newest_run(server):
    server.looks = [recorded("run-succeeded")[0]]
    server.listed = [run("hello", OTHER_ID, runtime_config=None), run("tiny", RUN_ID), run("old", "00")]
    lorry(server, "runs", "cancel", "latest")
    assert server.terminated == [RUN_ID]
    server.listed = server.listed[:1]
    assert f"none of the newest 20 runs of {server.url} is Lorry's" in refusal(server, "runs", "cancel", "latest")


def test_a_run_of_another_cluster_that_shares_the_store_is_said_to_be_that_ones(server, bucket, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, OTHER_ID)
    monkeypatch.setenv(STORE_VARIABLE, STORE)
    write_note(StepNote(step="train_lora", state="running"))
    assert refusal(server, "runs", "follow", OTHER_ID, LORRY_STORE=STORE) == (
        f"RUN {OTHER_ID}: {server.url} has no such run; the store {STORE} has notes of it: a cluster that shares the "
        "store ran it; give that one's --endpoint"
    )
    unknown = OTHER_ID.replace("2", "7")
    assert "has notes of it" not in refusal(server, "runs", "follow", unknown, LORRY_STORE=STORE)


def test_canceling_says_how_to_go_on(server):
    server.looks = [recorded("run-succeeded")[0]]
    assert lorry(server, "runs", "cancel", RUN_ID) == (
        f"asked to end: {server.url}/#/runs/details/{RUN_ID}\n"
        f"go on with it later: lorry runs retry {RUN_ID} --endpoint {server.url}\n"
    )
    assert server.terminated == [RUN_ID]


def test_a_run_that_has_ended_is_not_canceled(server):
    assert refusal(server, "runs", "cancel", RUN_ID) == f"run {RUN_ID}: has ended already, as SUCCEEDED"
    assert server.terminated == []


def test_a_run_that_failed_is_tried_again(server):
    server.looks = [recorded("run-step-killed-not-retried")[-1]]
    assert lorry(server, "runs", "retry", RUN_ID).endswith(
        f"follow it: lorry runs follow {RUN_ID} --endpoint {server.url}\n"
    )
    assert server.retried == [RUN_ID]


def test_only_a_run_that_failed_is_tried_again(server):
    assert refusal(server, "runs", "retry", RUN_ID) == (
        f"run {RUN_ID}: is SUCCEEDED; only a run that failed or was canceled is tried again; submit its recipe again"
    )
    server.looks = [recorded("run-succeeded")[0]]
    assert refusal(server, "runs", "retry", RUN_ID).endswith(f"end it first: lorry runs cancel {RUN_ID}")
    server.looks = [{**recorded("run-succeeded")[0], "state": "CANCELING"}]
    assert refusal(server, "runs", "retry", RUN_ID).endswith(f"wait until it has ended: lorry runs follow {RUN_ID}")
    assert server.retried == []


@pytest.fixture
def kubectl(tmp_path, monkeypatch) -> Path:
    """A kubectl that writes down what it is asked, and prints what the file beside it says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n. {folder}/answer\n')
    (folder / "kubectl").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def test_the_log_of_a_step_that_runs_comes_from_its_pod(server, kubectl):
    server.looks = [recorded("run-succeeded")[0]]
    (kubectl / "answer").write_text("echo 'I1128 10:00:00.000000 launcher'; echo 'step 1'; echo 'step 2'")
    assert lorry(server, "runs", "logs", RUN_ID, "train-lora") == "step 1\nstep 2\n"
    assert lorry(server, "runs", "logs", RUN_ID, "train_lora", "--tail", "1") == "step 2\n"
    (asked, _) = (kubectl / "asked").read_text().splitlines()
    pod = "finetune-rwz4c-retry-system-container-impl-"
    assert asked.startswith(f"--namespace kubeflow --request-timeout=15s logs {pod}")
    assert asked.endswith(" --container=main")


def test_the_log_of_a_step_that_has_ended_comes_from_the_store(server, bucket, kubectl):
    put_log("train-lora", "step 1\nstep 2\ntrain_lora done in 3.0 s\n")
    assert lorry(server, "runs", "logs", RUN_ID, "train_lora", "--tail", "2") == "step 2\ntrain_lora done in 3.0 s\n"
    assert not (kubectl / "asked").exists()


def test_a_log_that_is_in_neither_names_where_it_was_looked_for(server, bucket, kubectl):
    (kubectl / "answer").write_text("echo 'Error from server (NotFound): pods \"x\" not found' >&2; exit 1")
    assert refusal(server, "runs", "logs", RUN_ID, "train_lora") == (
        f"run {RUN_ID}: train_lora: its pod is gone, and its log is not in Kubeflow's store "
        f"(s3://lorry/v2/artifacts/finetune/{RUN_ID}/train-lora); where Kubeflow keeps its artifacts elsewhere, give "
        "--pipeline-root"
    )


def test_steps_without_a_log_say_why(server):
    server.looks = [recorded("run-all-cached")[-1]]
    assert refusal(server, "runs", "logs", RUN_ID, "gate") == (
        f"run {RUN_ID}: gate was reused from an earlier run, and has no log in this one"
    )
    server.looks = [recorded("run-succeeded")[0]]
    assert refusal(server, "runs", "logs", RUN_ID, "publish_model") == (
        f"run {RUN_ID}: publish_model has not started; what is waited for: lorry runs follow {RUN_ID}"
    )
    server.looks = [recorded("sweep-failed-at-a-type")[-1]]
    assert "split_data has no log: Kubeflow's driver failed before the step began" in refusal(
        server, "runs", "logs", RUN_ID, "split_data"
    )
    assert refusal(server, "runs", "logs", RUN_ID, "trian_lora") == (
        "STEP trian_lora: no such step; did you mean train_lora?"
    )


def test_a_run_that_is_gone_meanwhile_is_said_in_kubeflows_words(server):
    server.not_found = json.loads((RECORDED / "run-not-found.json").read_text())["body"]
    assert "answers 404: Failed to get a run: Failed to fetch run" in refusal(server, "runs", "cancel", RUN_ID)
