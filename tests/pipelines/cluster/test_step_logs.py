"""A step's log in Kubeflow's store, and the lines of it that are shown."""

from __future__ import annotations

import pytest

from components.storage.store import Store
from pipelines.cluster.step_logs import MAX_LOGS, N_LINES, TRACEBACK, StepLog, own_lines, read_log

FRAMES = (TRACEBACK, '  File "split.py", line 1', "    raise", "components.errors.DataError: rows.jsonl: line 7")


def put(root, name: str, text: str) -> None:
    Store(str(root), create=True).put_bytes(f"finetune/run-1/split-data/{name}", text.encode())


def test_the_lines_of_launcher_and_executor_are_left_out():
    lines = (
        "I1128 10:00:00.000000 launcher",
        "[KFP Executor 2026] starting",
        "24 rows read",
        "",
        "Loading KFP component",
    )
    assert StepLog("a", lines).last_lines == ["24 rows read"]


def test_an_error_that_a_user_can_correct_is_shown_without_its_frames():
    log = StepLog("a", ("24 rows read", *FRAMES))
    assert log.error == "rows.jsonl: line 7"
    assert log.last_lines == ["24 rows read", "components.errors.DataError: rows.jsonl: line 7"]


def test_a_bug_keeps_its_traceback_and_only_the_end_is_shown():
    lines = (*(f"line {n}" for n in range(40)), TRACEBACK, "  frame", "ValueError: a bug")
    log = StepLog("a", lines)
    assert log.error is None
    assert len(log.last_lines) == N_LINES
    assert log.last_lines[-3:] == list(lines[-3:])


def test_a_log_that_is_not_there_has_its_address_and_no_lines(tmp_path):
    assert read_log(str(tmp_path / "root"), "finetune", "run-1", "gate") == StepLog(
        f"{tmp_path}/root/finetune/run-1/gate"
    )
    log = read_log("minio://127.0.0.1:9/x", "finetune", "run-1", "gate")
    assert log.address.startswith("s3://127.0.0.1:9/x/finetune/")
    assert log.lines == ()


def test_of_several_iterations_the_failed_one_is_found(tmp_path):
    put(tmp_path, "aaaa/executor-logs-0", "\n".join(FRAMES))
    put(tmp_path, "bbbb/executor-logs-0", "all is well")
    log = read_log(str(tmp_path), "finetune", "run-1", "split-data", of_failed=True)
    assert log.error == "rows.jsonl: line 7"
    assert MAX_LOGS > 2


@pytest.mark.parametrize("of_failed", [False, True])
def test_without_a_failed_one_the_newest_or_none(tmp_path, of_failed):
    put(tmp_path, "aaaa/executor-logs-0", "all is well")
    log = read_log(str(tmp_path), "finetune", "run-1", "split-data", of_failed=of_failed)
    assert log.lines == (() if of_failed else ("all is well",))


def test_the_inputs_that_the_executor_prints_are_left_out():
    lines = [
        "[KFP Executor 2026-11-28 16:20:28,548 INFO]: Got executor_input:",
        "{",
        '    "inputs": {',
        "    }",
        "}",
        "split_data begins",
        "{",
        "Wrote executor output file to /minio/output_metadata.json.",
    ]
    assert own_lines(lines) == ["split_data begins", "{"]
