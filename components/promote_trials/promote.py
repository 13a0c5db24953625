"""Collect the records of a rung, and choose the trials to continue."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.artifacts.contracts import TRIAL_NAME, Trial
from components.compare_runs.run_files import read_run
from components.compare_runs.runs import ComparedRun

log = logging.getLogger(__name__)


def promote(
    trials: Sequence[dict[str, Any]],
    *,
    fraction: float,
    reduction_factor: int,
    record_paths: Sequence[str],
    earlier_path: str | None,
    runs_path: str,
) -> list[dict[str, Any]]:
    """The items of ``trials`` to continue; ``runs_path`` gets the newest record folder of each trial.

    Of the trials whose losses compare, one in ``reduction_factor`` is continued, and at least one. They compare by
    their losses at ``fraction`` of their steps, also where an earlier sweep trained one farther. A trial that failed
    is not continued, unless all failed: a KFP loop without items has no records to collect, so one fails again.
    """
    runs = _collect(record_paths, earlier_path, Path(runs_path))
    losses = {run.name: run.loss_at_share(fraction) for run in runs}
    chosen = _chosen(runs, losses, reduction_factor) or {runs[0].name}
    for run in runs:
        decision = f"is stopped ({run.status})"
        if run.name in chosen:
            decision = "is continued" if fraction < 1 else "is complete"
        loss = losses[run.name]
        loss_text = "unknown" if loss is None else f"{loss:.4f}"
        log.info("trial %s: loss %s at %.0f %% of its steps, %s", run.name, loss_text, 100 * fraction, decision)
    return [item for item in trials if item["trial"]["name"] in chosen]


def _collect(record_paths: Sequence[str], earlier_path: str | None, folder: Path) -> list[ComparedRun]:
    """Copy the records into ``folder``, over those of earlier rungs; return the runs of this rung."""
    folder.mkdir(parents=True, exist_ok=True)
    if earlier_path is not None:
        shutil.copytree(earlier_path, folder, dirs_exist_ok=True)
    runs = []
    for path in map(Path, record_paths):
        name = Trial.model_validate_json((path / TRIAL_NAME).read_bytes()).name
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(path, folder / name)
        runs.append(read_run(folder / name))
    return runs


def _chosen(runs: Sequence[ComparedRun], losses: Mapping[str, float | None], reduction_factor: int) -> set[str]:
    by_rows: dict[str, list[str]] = {}
    for run in runs:
        by_rows.setdefault(run.measured_on, []).append(run.name)
    chosen: set[str] = set()
    for own in by_rows.values():
        by_loss = sorted((name for name in own if losses[name] is not None), key=lambda name: losses[name] or 0.0)
        chosen.update(by_loss[: math.ceil(len(own) / reduction_factor)])
    return chosen
