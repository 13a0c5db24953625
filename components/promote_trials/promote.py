"""Gather the records of a rung, and choose which trials are continued."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.compare_runs.runs import ComparedRun, read_run
from components.contracts import TRIAL_NAME, Trial

log = logging.getLogger(__name__)


def promote(
    trials: Sequence[dict[str, Any]],
    *,
    reduction_factor: int,
    record_paths: Sequence[str],
    earlier_path: str | None,
    runs_path: str,
) -> list[dict[str, Any]]:
    """The items of ``trials`` to continue; ``runs_path`` gets a folder a trial, an earlier rung's where none is newer.

    One in ``reduction_factor`` goes on, and at least one, of those whose losses compare; none that failed.
    A factor of 1 continues every trial that has a loss.
    """
    folder = Path(runs_path)
    folder.mkdir(parents=True, exist_ok=True)
    if earlier_path is not None:
        shutil.copytree(earlier_path, folder, dirs_exist_ok=True)
    runs = []
    for path in map(Path, record_paths):
        name = Trial.model_validate_json((path / TRIAL_NAME).read_bytes()).name
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(path, folder / name)
        runs.append(read_run(folder / name))
    chosen = _chosen(runs, reduction_factor)
    for run in runs:
        fate = "goes on" if run.name in chosen else f"ends here ({run.status})"
        log.info("trial %s: loss %s at step %d, %s", run.name, _told(run.loss), run.steps, fate)
    return [item for item in trials if item["trial"]["name"] in chosen]


def _chosen(runs: Sequence[ComparedRun], reduction_factor: int) -> set[str]:
    by_rows: dict[str, list[ComparedRun]] = {}
    for run in runs:
        by_rows.setdefault(run.measured_on, []).append(run)
    chosen: set[str] = set()
    for own in by_rows.values():
        good = sorted((run for run in own if run.loss is not None), key=lambda run: run.loss or 0.0)
        chosen.update(run.name for run in good[: math.ceil(len(own) / reduction_factor)])
    return chosen


def _told(loss: float | None) -> str:
    return "unknown" if loss is None else f"{loss:.4f}"
