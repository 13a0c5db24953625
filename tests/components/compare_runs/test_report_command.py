"""``lorry report`` over folders and tables."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT, run_lorry

PUBLISHED = ROOT / "tests" / "data" / "published-runs.csv"


def test_lorry_report_compares_folders_and_tables(tiny_run, tmp_path):
    done = run_lorry("report", tiny_run.run_folder, PUBLISHED, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "exp9_optimal_combination" in done.stdout
    assert tiny_run.run_folder.name in (tmp_path / "out" / "report.md").read_text()
    refused = run_lorry("report", tmp_path, "-o", tmp_path / "out")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {tmp_path}: holds no run.json")


def test_lorry_report_measures_each_model_on_each_validation_set(tiny_run, tmp_path):
    done = run_lorry("report", tiny_run.run_folder, "--each-on-each", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    matrix = json.loads((tmp_path / "out" / "comparison.json").read_text())["each_on_each"]
    name = tiny_run.run_folder.name
    record = json.loads((tiny_run.run_folder / "run.json").read_text())
    assert matrix == {name: {name: pytest.approx(record["final_eval_loss"], rel=1e-5)}}
    refused = run_lorry("report", PUBLISHED, "--each-on-each", "-o", tmp_path / "out")
    assert "--each-on-each needs the adapter and the rows of a whole run" in refused.stderr
