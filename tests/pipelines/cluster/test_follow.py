"""`--wait` on what a real Kubeflow Pipelines 2.17 answered (tests/data/kubeflow)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.compare_runs.compare import compare
from components.compare_runs.config import CompareConfig
from components.compare_runs.report import write_reports
from components.compare_runs.runs import ComparedRun, Point
from components.publish_model.config import PublishConfig
from components.publish_model.publish import publish_figures
from components.publish_sweep.publish import REPORTS, publish_comparison, publish_winner
from components.storage.run_notes import RUN_VARIABLE, STORE_VARIABLE, StepNote, write_note
from components.storage.store import Store
from pipelines.cluster.step_logs import read_log
from pipelines.config.steps import RUN_STEPS
from tests.conftest import ROOT, run_lorry
from tests.pipelines.cluster.kubeflow_stand_in import RUN_ID, StandIn, kubeflow

RECORDED = ROOT / "tests" / "data" / "kubeflow"
STORE = "s3://lorry/store"
LOGS = "s3://lorry/v2/artifacts"


def recorded(name: str, **changes: Any) -> list[dict[str, Any]]:
    """The answers of one recorded run, in order; the run's store is the test's."""
    answers = json.loads((RECORDED / f"{name}.json").read_text())
    for answer in answers:
        answer["run_id"] = RUN_ID
        answer["runtime_config"]["parameters"]["publish"] = {"store": STORE}
        answer["runtime_config"]["pipeline_root"] = LOGS
        answer.update(changes)
    return answers


def follow(answers: list[Any], tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # No kubeconfig of the machine that runs the tests is looked into.
    environment = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path), **environment}
    with kubeflow(StandIn(answers)) as server:
        flags = ["--endpoint", server.url, "--look-seconds", "0.02", "--workdir", str(tmp_path)]
        return run_lorry("runs", "follow", RUN_ID, *flags, **environment)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if ": " in line and "│" not in line]


def put_log(
    task: str, text: str, name: str = "executor-logs-0", *, pipeline: str = "finetune", salt: str = "6f1c"
) -> str:
    key = f"{pipeline}/{RUN_ID}/{task}/{salt}/{name}"
    Store(LOGS).put_bytes(key, text.encode())
    return f"{LOGS}/{key}"


@pytest.fixture
def figures(tiny_run, bucket) -> None:
    """What the last step of a run leaves in the store."""
    publish_figures(
        PublishConfig(store=STORE), RUN_ID, {**tiny_run.result.figures, "model": {"sha256": "0" * 64, "store": STORE}}
    )


def test_a_run_through_all_its_states_ends_with_its_table(figures, tmp_path):
    done = follow(recorded("run-succeeded"), tmp_path)
    assert done.returncode == 0, done.stderr
    steps = ("split_data", "train_lora", "evaluate", "export_gguf", "evaluate_gguf", "gate", "publish_model")
    assert [line for line in lines(done) if line.endswith("started")] == [f"{step}: started" for step in steps]
    assert "train_lora: finished in 164.0 s" in lines(done)
    assert lines(done).index("train_lora: finished in 164.0 s") < lines(done).index("evaluate: started")
    assert "same top token at" in done.stdout


def test_reused_steps_are_said_to_be_reused(figures, tmp_path):
    done = follow(recorded("run-all-cached"), tmp_path)
    assert lines(done)[:7] == [
        "split_data: unchanged, reused",
        "train_lora: unchanged, reused",
        "evaluate: unchanged, reused",
        "export_gguf: unchanged, reused",
        "evaluate_gguf: unchanged, reused",
        "gate: unchanged, reused",
        "publish_model: started",
    ]
    assert "finished in 0.0 s" not in done.stdout


def test_a_pod_that_was_deleted_is_tried_again_and_an_end_by_hand_is_no_failure(bucket, tmp_path):
    done = follow(recorded("run-pod-deleted-retried-then-terminated"), tmp_path)
    said = [line for line in lines(done) if line.startswith(("train_lora", "somebody"))]
    assert said == [
        "train_lora: started",
        "train_lora: its pod was lost or killed; try 1",
        "train_lora: begins again, try 2",
        "train_lora: its pod was lost or killed; try 2",
        "train_lora: canceled",
    ]
    assert "somebody ends the run; training writes a checkpoint before it ends" in done.stdout
    assert done.returncode == 1
    assert done.stderr.startswith("error: the run was canceled in train_lora: somebody ended it; submit it again")


def test_how_often_a_step_is_tried_comes_from_the_run_itself(bucket, tmp_path):
    policy = {"maxRetryCount": 20, "backoffDuration": "60s"}
    spec = {"root": {"dag": {"tasks": {"train-lora": {"retryPolicy": policy}}}}}
    done = follow(recorded("run-pod-deleted-retried-then-terminated", pipeline_spec={"pipeline_spec": spec}), tmp_path)
    assert (
        "train_lora: its pod was lost or killed; try 1 of 21; Kubeflow waits 60s and then decides whether to try again"
        in lines(done)
    )
    assert "train_lora: begins again, try 2 of 21" in lines(done)


DATA_ERROR = """\
I1127 21:27:56.000000      10 launcher_v2.go:182] publish success.
[KFP Executor 2026-11-27 21:27:57] INFO: Looking for component
split_data begins
Traceback (most recent call last):
  File "/app/components/split_data/deal.py", line 90, in deal_out
components.errors.DataError: chats.jsonl: the split asks for 931 rows, but only 390 of 390 rows can be used
"""


def test_a_step_that_fails_is_named_with_its_error_and_the_end_of_its_log(bucket, tmp_path):
    address = put_log("split-data", DATA_ERROR)
    done = follow(recorded("run-failed-by-a-data-error"), tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: the run failed in split_data: chats.jsonl: the split asks for 931 rows, but only 390 of 390 rows can "
        "be used; its page: http://127.0.0.1:"
    )
    _, _, shown = done.stdout.partition(f"the last lines of its log ({address}):\n")
    assert shown.splitlines()[0] == "  split_data begins"
    assert shown.splitlines()[-1].startswith("  components.errors.DataError: chats.jsonl")
    assert "launcher_v2" not in shown
    assert "KFP Executor" not in shown


def test_the_newest_of_several_tries_is_the_log_that_is_shown(bucket, tmp_path):
    put_log("split-data", "old\n")
    time.sleep(1.1)  # stores keep whole seconds
    put_log("split-data", "new\n", "executor-logs-1")
    done = follow(recorded("run-failed-by-a-data-error"), tmp_path)
    assert done.stdout.endswith("executor-logs-1):\n  new\n")


def test_a_log_that_is_not_in_the_store_is_said_with_the_pods_name(bucket, tmp_path):
    done = follow(recorded("run-step-killed-not-retried"), tmp_path)
    assert done.stderr.startswith(
        f"error: the run failed in train_lora; its log is not in the store ({LOGS}/finetune/{RUN_ID}/train-lora); "
        "while its pod is there: "
        "kubectl -n kubeflow logs finetune-ndh4p-retry-system-container-impl-3083312738 -c main; "
    )


def test_a_step_that_kubeflow_could_not_begin_names_the_driver(bucket, tmp_path):
    done = follow(recorded("sweep-failed-at-a-type"), tmp_path)
    assert "error: the run failed in split_data: Kubeflow's driver, which prepares the step, failed" in done.stderr


def a_run(name: str, loss: float) -> ComparedRun:
    return ComparedRun(
        name=name, steps=9, settings={}, curve=[Point(step=9, minutes=1.0, loss=loss)], minutes=1.0,
        measured_on="rows", loss_kind="validation", base_model="base", data="chats.jsonl",
    )  # fmt: skip


@pytest.fixture
def trials(bucket, tmp_path, monkeypatch) -> list[str]:
    """Two trials' records, and what the steps of a sweep leave in the store."""
    names = [item["trial"]["name"] for item in recorded("sweep-succeeded")[0]["runtime_config"]["parameters"]["trials"]]
    monkeypatch.setenv(RUN_VARIABLE, RUN_ID)
    monkeypatch.setenv(STORE_VARIABLE, STORE)
    for name in names:
        told = {"final_eval_loss": 0.5, "steps": 9.0}
        write_note(StepNote(step="train_trial", trial=name, fraction=1.0, state="finished", seconds=8, figures=told))
    for step in ("promote_trials", "compare_runs"):
        write_note(StepNote(step=step, state="finished", seconds=2))
    return names


def test_a_sweep_names_its_trials_and_ends_with_its_table_though_the_api_stops_listing(trials, tmp_path):
    comparison = compare([a_run("fast", 0.5), a_run("slow", 0.75)], CompareConfig())
    made = write_reports(comparison, tmp_path / "made")
    paths = {output: str(made[name]) for output, name in REPORTS.items() if name in made}
    publish_comparison(PublishConfig(store=STORE), RUN_ID, paths)
    publish_winner(PublishConfig(store=STORE), RUN_ID, "fast", {"base_test_loss": 2.5, "tuned_test_loss": 1.25})
    done = follow(recorded("sweep-succeeded"), tmp_path / "work")
    assert done.returncode == 0, done.stderr
    for name in trials:
        assert lines(done).count(f"trial {name}: finished in 8.0 s: validation loss 0.5000 after 9 steps") == 1
    # The recorded list ends before these.
    assert "compare_runs: finished in 2.0 s" in lines(done)
    assert done.stdout.count("train_trial: finished") == 0
    assert "winner on the test rows: loss 2.5000 untuned, 1.2500 tuned" in done.stdout
    (folder,) = (tmp_path / "work" / "sweeps").iterdir()
    assert {"report.html", "report.md", "comparison.json"} <= {path.name for path in folder.iterdir()}


def test_a_pending_step_says_for_how_long_and_how_to_see_why(bucket, tmp_path):
    """Without a kubeconfig."""
    pending = recorded("run-pod-deleted-retried-then-terminated")[2]
    script = (
        "from pipelines.cluster import follow; follow.SECONDS_TO_WAIT = 0.2; from pipelines.cli import main; main()"
    )
    with kubeflow(StandIn([*[pending] * 40, 404])) as server:
        command = [
            sys.executable,
            "-c",
            script,
            "runs",
            "follow",
            RUN_ID,
            "--endpoint",
            server.url,
            "--look-seconds",
            "0.02",
        ]
        environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path), "COLUMNS": "200"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    waits = [line for line in done.stdout.splitlines() if "pending for" in line]
    assert waits == [
        "train_lora: pending for 0 s: its pod has not started; why: "
        f"kubectl -n kubeflow describe pods -l pipeline/runid={RUN_ID}"
    ]


def test_ctrl_c_says_how_to_follow_again_and_how_to_end_the_run(bucket, tmp_path):
    with kubeflow(StandIn([recorded("run-succeeded")[0]])) as server:
        command = [sys.executable, "-m", "pipelines.cli", "runs", "follow", RUN_ID, "--endpoint", server.url]
        environment = {**os.environ, "COLUMNS": "200"}
        # Of a run of the tests in the background, SIGINT is ignored, and children inherit that.
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline().startswith("split_data: ")
        child.send_signal(signal.SIGINT)
        rest = child.communicate(timeout=60)[0]
    assert f"the run goes on: {server.url}/#/runs/details/{RUN_ID}" in rest
    assert f"follow it again: lorry runs follow {RUN_ID} --endpoint {server.url}" in rest
    assert f"end it: lorry runs cancel {RUN_ID} --endpoint {server.url}" in rest


def test_a_large_run_that_fails_after_the_list_has_stopped_says_why(trials, tmp_path):
    write_note(StepNote(step="compare_runs", state="failed", error="report.html: the disk is full"))
    put_log("compare-runs", "compare_runs begins\n" + DATA_ERROR.partition("begins\n")[2], pipeline="sweep")
    done = follow(recorded("sweep-succeeded", state="FAILED"), tmp_path)
    assert done.returncode == 1
    assert "error: the run failed in compare_runs: report.html: the disk is full; its page:" in done.stderr
    assert "\n  compare_runs begins\n" in done.stdout


def test_of_a_loop_the_log_of_the_iteration_that_failed_is_shown(bucket, tmp_path):
    put_log("split-data", DATA_ERROR, salt="failed")
    time.sleep(1.1)  # stores keep whole seconds
    put_log("split-data", "split_data begins\nsplit_data done in 1.0 s\n", salt="well")
    log = read_log(LOGS, "finetune", RUN_ID, "split-data", of_failed=True)
    assert log.error == "chats.jsonl: the split asks for 931 rows, but only 390 of 390 rows can be used"
    assert read_log(LOGS, "finetune", RUN_ID, "split-data").error is None


@pytest.mark.parametrize(
    "parameters", [{"trials": 10}, {}, {"publish": "yes"}, {"publish": {"store": 5}}, {"reduction_factor": "2"}]
)
def test_a_run_of_another_pipeline_is_refused_in_a_line(parameters, tmp_path):
    (answer,) = recorded("run-all-cached")
    answer["runtime_config"]["parameters"] = parameters
    done = follow([answer], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: run 'demo-20261127-205817': was not started by lorry submit or lorry sweep")


def test_a_store_that_does_not_answer_is_said_once_and_the_run_is_followed(figures, tmp_path):
    answers = recorded("run-all-cached", state="RUNNING")
    done = follow(
        [*answers * 3, recorded("run-failed-by-a-data-error")[0]], tmp_path, AWS_ENDPOINT_URL="http://127.0.0.1:9"
    )
    assert done.stdout.count("no figures while it runs: ") == 1
    assert "error: the run failed in split_data" in done.stderr


def test_a_run_of_a_schedule_reuses_publishing_and_shows_the_figures_of_its_run_key(bucket, tmp_path):
    publish_figures(PublishConfig(store=STORE), "73d630632a2932c1", {"model": {"sha256": "5" * 64, "store": STORE}})
    done = follow(recorded("run-of-a-schedule-all-reused"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines(done)[:7] == [f"{step.name}: unchanged, reused" for step in RUN_STEPS]
    assert f"{STORE}/models/{'5' * 64}" in done.stdout
