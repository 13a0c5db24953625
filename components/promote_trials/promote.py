"""Gather the records of a rung, and choose which trials are continued."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.artifacts.contracts import TRIAL_NAME, Trial
from components.compare_runs.runs import ComparedRun, read_run

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
    """The items of ``trials`` to continue; ``runs_path`` gets a folder a trial, an earlier rung's where none is newer.

    One in ``reduction_factor`` goes on, and at least one, of those whose losses compare, by their losses at
    ``fraction`` of their steps: a trial that an earlier sweep trained farther is not judged by that. None that failed
    goes on, unless all did: a loop of KFP's over nothing has no records to gather, so one is left to fail again.
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
    losses = {run.name: run.loss_at_share(fraction) for run in runs}
    chosen = _chosen(runs, losses, reduction_factor) or {runs[0].name}
    for run in runs:
        fate = f"ends here ({run.status})"
        if run.name in chosen:
            fate = "goes on" if fraction < 1 else "is at its end"
        told = "unknown" if (loss := losses[run.name]) is None else f"{loss:.4f}"
        log.info("trial %s: loss %s at %.0f %% of its steps, %s", run.name, told, 100 * fraction, fate)
    return [item for item in trials if item["trial"]["name"] in chosen]


def _chosen(runs: Sequence[ComparedRun], losses: Mapping[str, float | None], reduction_factor: int) -> set[str]:
    by_rows: dict[str, list[str]] = {}
    for run in runs:
        by_rows.setdefault(run.measured_on, []).append(run.name)
    chosen: set[str] = set()
    for own in by_rows.values():
        good = sorted((name for name in own if losses[name] is not None), key=lambda name: losses[name] or 0.0)
        chosen.update(good[: math.ceil(len(own) / reduction_factor)])
    return chosen
