"""The runs that ``lorry report`` is given: folders of runs and sweeps, and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from components.artifacts.contracts import RUN_RECORD_NAME
from components.compare_runs.report import DATA
from components.compare_runs.run_files import read_run
from components.compare_runs.runs import ComparedRun
from components.compare_runs.table_file import read_table
from components.errors import ModelError
from pipelines.local.sweep import TRIALS
from pipelines.local.workdir import outputs_in


def read_all(paths: Sequence[Path]) -> list[ComparedRun]:
    """The runs at ``paths``, in their order; a sweep's folder stands for its trials.

    Raises:
        ModelError: a folder holds no run.
        DataError: a table cannot be read.
    """
    runs: list[ComparedRun] = []
    for path in paths:
        found = read_table(path) if path.suffix == ".csv" else [_named(folder, path) for folder in _folders(path)]
        taken = {run.name for run in runs}
        # Two sweeps may have trials of one name; a folder that is given twice stays an error.
        is_sweep = len(found) > 1 and path.suffix != ".csv"
        runs += [
            run.model_copy(update={"name": f"{path.name}/{run.name}"}) if is_sweep and run.name in taken else run
            for run in found
        ]
    return runs


def _named(folder: Path, given: Path) -> ComparedRun:
    # A run's own name is its recipe's, which several runs have; its folder's is its alone.
    return read_run(folder, folder.name if folder == given else None)


def _folders(path: Path) -> Iterator[Path]:
    """The folder itself, or those of a sweep's trials in its order."""
    trials = path / TRIALS
    if (path / RUN_RECORD_NAME).is_file() or not trials.is_dir():
        yield path
        return
    table = path / DATA
    names = [run["name"] for run in json.loads(table.read_bytes())["runs"]] if table.is_file() else []
    rest = sorted(folder.name for folder in trials.iterdir() if folder.is_dir() and folder.name not in names)
    yield from (trials / name for name in (*names, *rest))


def measure_each_on_each(paths: Sequence[Path], report: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """The loss of every run's model on every run's validation rows: by the model's run, then by the rows'.

    Raises:
        ModelError: a folder is not that of a whole run, or its files are gone.
    """
    from components.evaluate.each_on_each import TrainedRun, measure_losses

    found = []
    for path in paths:
        made = {(output.step, output.name): output.path for output in outputs_in(path)}
        adapter, rows = made.get(("train_lora", "adapter")), made.get(("split_data", "validation"))
        if adapter is None or rows is None or not (adapter.is_dir() and rows.is_file()):
            raise ModelError(
                f"{path}: --each-on-each needs the adapter and the rows of a whole run, and they are not there; give "
                "folders of .lorry/runs whose steps are still in the work folder"
            )
        found.append(TrainedRun(path.name, str(adapter), str(rows)))
    return measure_losses(found, report)
