"""What the engine reports of kfp.local's tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kfp import dsl
from kfp.local import task_dispatcher
from kfp.local.orchestrator import task_executor
from kfp.local.status import Status

from pipelines.local.engine import EVENT, TaskEvents


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """kfp's function that executes a task, wrapped; its original calls the dispatcher ``tries`` times."""

    def original(task_name: str, *, tries: int, status: Status = Status.SUCCESS):
        for _ in range(tries):
            # As kfp.local calls it: by its module.
            task_dispatcher.run_single_task_implementation()
        outputs = {"rows": dsl.Dataset("rows", uri=str(tmp_path / "rows"), metadata={"n": 3}), "text": "no artifact"}
        return (outputs if status is Status.SUCCESS else {}), status

    monkeypatch.setattr(task_dispatcher, "run_single_task_implementation", lambda: None)
    monkeypatch.setattr(task_executor, "execute_single_task", original)
    TaskEvents(tmp_path / "outputs.jsonl").install()
    return task_executor.execute_single_task


def events(printed: str) -> list[tuple[str, str]]:
    # splitlines would split at EVENT itself.
    lines = [json.loads(line.removeprefix(EVENT)) for line in printed.split("\n") if line.startswith(EVENT)]
    return [(line["event"], line["step"]) for line in lines]


def written(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "outputs.jsonl").read_text().splitlines()]


def test_a_task_that_runs_is_started_once_and_ends(execute, capsys):
    execute("train-lora", tries=3)
    assert events(capsys.readouterr().out) == [("started", "train_lora"), ("success", "train_lora")]


def test_a_task_from_the_cache_is_reused(execute, capsys):
    execute("split-data-2", tries=0)
    assert events(capsys.readouterr().out) == [("reused", "split_data")]


def test_a_failed_task_is_reported_and_leaves_nothing(execute, capsys, tmp_path):
    execute("gate", tries=1, status=Status.FAILURE)
    assert events(capsys.readouterr().out) == [("started", "gate"), ("failure", "gate")]
    assert written(tmp_path) == [{"step": "gate", "outputs": {}}]


def test_the_artifacts_of_a_task_are_written_with_their_metadata(execute, tmp_path):
    execute("split-data", tries=1)
    assert written(tmp_path) == [
        {"step": "split_data", "outputs": {"rows": {"path": str(tmp_path / "rows"), "metadata": {"n": 3}}}}
    ]
