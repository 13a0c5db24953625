"""The comparison at the end of a sweep: a row for every trial, and the best trials."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.compare_runs.compare import Comparison, compare
from components.compare_runs.config import CompareConfig
from components.compare_runs.report import CHART, DATA, PAGE, RECIPE, TABLE, write_reports
from components.compare_runs.run_files import read_run

log = logging.getLogger(__name__)


def compare_trials(
    config: CompareConfig,
    trials: Sequence[dict[str, Any]],
    *,
    runs_path: str,
    report_path: str,
    table_path: str,
    curves_path: str,
    comparison_path: str,
    best_recipe_path: str,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Write the reports; return the items of ``trials`` that won, one for each set of losses that compare, and figures.

    The best recipe's file is empty where no trial has a loss.
    """
    names = [str(item["trial"]["name"]) for item in trials]
    comparison = compare([read_run(Path(runs_path) / name, name) for name in names], config)
    targets = {PAGE: report_path, TABLE: table_path, CHART: curves_path, DATA: comparison_path}
    Path(best_recipe_path).write_text("", encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write_reports(comparison, Path(folder)).items():
            shutil.copyfile(path, {**targets, RECIPE: best_recipe_path}[name])
    for line in (*(compared.verdict for compared in comparison.sets), *comparison.warnings):
        log.info("%s", line)
    best = {compared.best for compared in comparison.sets}
    return [item for item in trials if item["trial"]["name"] in best], _figures(comparison)


def _figures(comparison: Comparison) -> dict[str, float]:
    finished = [run for run in comparison.runs if run.status == "finished"]
    figures: dict[str, float] = {"trials": len(comparison.runs), "finished": len(finished)}
    figures["steps"] = sum(run.steps for run in comparison.runs)
    if (lowest := [one.loss for compared in comparison.sets for one in compared.ranking[:1]]) and len(lowest) == 1:
        figures["best_loss"] = lowest[0]
    return figures
