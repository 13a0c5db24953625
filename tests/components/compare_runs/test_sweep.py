"""The comparison at the end of a sweep, from the folders of its trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.compare_runs.compare import Comparison
from components.compare_runs.config import CompareConfig
from components.compare_runs.sweep import compare_trials
from components.errors import ModelError
from tests.components.compare_runs.runs import a_record, a_trial, write_run

OUTPUTS = ("report", "table", "curves", "comparison", "best_recipe")


def compare(folder: Path, names: list[str]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    trials = [{"trial": {"name": name}, "other": name.upper()} for name in names]
    paths = {f"{name}_path": str(folder / name) for name in OUTPUTS}
    return compare_trials(CompareConfig(), trials, runs_path=str(folder / "runs"), **paths)


def write(folder: Path, name: str, loss: float, **changes: Any) -> None:
    history = [{"step": step, "eval_loss": loss} for step in (10, 20)]
    write_run(folder / "runs" / name, a_record(**changes), history=history, trial=a_trial(name))


def test_the_best_trial_is_returned_as_it_was_given_with_figures_and_files(tmp_path):
    write(tmp_path, "a", 1.5)
    write(tmp_path, "b", 1.2)
    write(tmp_path, "hot", 9.0, status="diverged", reason="the loss is nan")
    winners, figures = compare(tmp_path, ["a", "b", "hot"])
    assert winners == [{"trial": {"name": "b"}, "other": "B"}]
    assert figures == {"trials": 3, "finished": 2, "steps": 60, "best_loss": 1.2}
    comparison = Comparison.model_validate_json((tmp_path / "comparison").read_bytes())
    assert [run.name for run in comparison.runs] == ["a", "b", "hot"]
    assert (tmp_path / "best_recipe").read_text() == "name: b\n"
    assert "<html" in (tmp_path / "report").read_text()
    assert (tmp_path / "table").read_text().startswith("# Runs compared")
    assert (tmp_path / "curves").read_bytes().startswith(b"\x89PNG")


def test_each_set_of_losses_has_a_winner_and_no_common_best_loss(tmp_path):
    write(tmp_path, "a", 1.5)
    write(tmp_path, "b", 1.2, validation_fingerprint="w" * 64)
    winners, figures = compare(tmp_path, ["a", "b"])
    assert [winner["other"] for winner in winners] == ["A", "B"]
    assert "best_loss" not in figures


def test_without_any_loss_nothing_wins_and_the_best_recipe_is_empty(tmp_path):
    write(tmp_path, "hot", 9.0, status="diverged")
    winners, figures = compare(tmp_path, ["hot"])
    assert (winners, figures["finished"]) == ([], 0)
    assert (tmp_path / "best_recipe").read_bytes() == b""


def test_a_trial_without_a_record_is_an_error(tmp_path):
    write(tmp_path, "a", 1.0)
    with pytest.raises(ModelError, match="no such run folder"):
        compare(tmp_path, ["a", "missing"])
