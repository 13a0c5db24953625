"""Running a sweep: on this machine, or sent to a Kubeflow endpoint."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.compare_runs.compare import Comparison
from components.compare_runs.report import CHART, DATA, PAGE, RECIPE, TABLE
from components.errors import ModelError, StepFailedError
from components.publish_sweep.publish import REPORTS, folder_of, winners_in
from components.storage.store import Store
from pipelines.cluster.kubeflow import Kubeflow
from pipelines.config.addresses import claims_in
from pipelines.config.pools import Placement
from pipelines.local.run import DOCUMENT, run_document
from pipelines.local.workdir import OUTPUTS, Workdir, made_by_steps, new_folder
from pipelines.resolve.trials import ResolvedSweep
from pipelines.terminal.progress import Progress

TRIALS = "trials"
KEPT = {
    ("compare_runs", "report"): PAGE,
    ("compare_runs", "table"): TABLE,
    ("compare_runs", "curves"): CHART,
    ("compare_runs", "comparison"): DATA,
    ("compare_runs", "best_recipe"): RECIPE,
    ("evaluate", "report"): "winner-evaluation.html",
}


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves on this machine: its reports and, where it ran here, a folder a trial in ``trials/``.

    ``winners`` are the figures of each winner on rows that nothing was chosen by.
    """

    folder: Path
    winners: list[dict[str, float]]

    @property
    def comparison(self) -> Comparison:
        """Table, rankings and effects."""
        return Comparison.model_validate_json((self.folder / DATA).read_bytes())

    @property
    def best_recipe(self) -> Path | None:
        """The best setting as a recipe, or None where no trial has a loss."""
        path = self.folder / RECIPE
        return path if path.is_file() and path.stat().st_size else None

    @property
    def on_the_test_rows(self) -> list[str]:
        """A line for each winner: what it has on rows that nothing was chosen by."""
        return [
            f"winner on the test rows: loss {told['base_test_loss']:.4f} untuned, {told['tuned_test_loss']:.4f} tuned"
            for told in self.winners
            if "tuned_test_loss" in told
        ]

    @property
    def places(self) -> dict[str, Path]:
        """Where what a person wants to open lies."""
        names = {"report": PAGE, "as Markdown": TABLE, "loss curves": CHART, "best recipe": RECIPE, "trials": TRIALS}
        names |= {"winner on the test rows": KEPT["evaluate", "report"], "log": "log.txt"}
        return {label: self.folder / name for label, name in names.items() if (self.folder / name).exists()}


def run_sweep(
    resolved: ResolvedSweep, workdir: Workdir, progress: Progress, no_reuse: Collection[str] = ()
) -> SweepResult:
    """Compile the sweep, run the compiled document with kfp.local, one trial after another.

    Raises:
        StepFailedError: a step failed; trials that finished are reused by the same command.
        KeyboardInterrupt: after everything has stopped.
    """
    from pipelines.graph.sweep import compile_sweep

    folder = new_folder(workdir.sweeps, resolved.sweep.name)
    compile_sweep(folder / DOCUMENT, resolved.fractions, no_reuse=no_reuse)
    try:
        run_document(folder, resolved.arguments(workdir.checkpoints), workdir, progress)
    except StepFailedError:
        _keep(folder)
        raise
    _keep(folder)
    made = made_by_steps(folder / OUTPUTS)
    return SweepResult(folder, [told for step, name, _, told in made if (step, name) == ("evaluate", "metrics")])


def fetch_sweep(store: Store, run_id: str, folder: Path) -> SweepResult:
    """What a sweep on a cluster left in the store, copied into ``folder``.

    Raises:
        StoreError: the store refuses or does not answer.
        ModelError: the sweep left nothing there.
    """
    there = folder_of(run_id)
    if store.size_of(f"{there}/{DATA}") is None:
        raise ModelError(f"{store.address_of(there)}: the sweep left no comparison there")
    folder.mkdir(parents=True, exist_ok=True)
    for name in REPORTS.values():
        if store.size_of(f"{there}/{name}") is not None:
            (folder / name).write_bytes(store.read(f"{there}/{name}"))
    return SweepResult(folder, [figures for _, figures in winners_in(store, run_id)])


def _keep(folder: Path) -> None:
    for step, name, path, _ in made_by_steps(folder / OUTPUTS):
        if kept := KEPT.get((step, name)):
            target = folder / kept
            if step == "evaluate":  # trials of several data sets have a winner each
                target = folder / f"{target.stem}{_number(folder, target.stem)}.html"
            shutil.copyfile(path, target)
        elif (step, name) == ("promote_trials", "runs"):
            shutil.copytree(path, folder / TRIALS, dirs_exist_ok=True)


def _number(folder: Path, stem: str) -> str:
    """Nothing for the first page of a name, ``-2`` for the second."""
    there = len(list(folder.glob(f"{stem}*.html")))
    return f"-{there + 1}" if there else ""


def submit_sweep(
    resolved: ResolvedSweep,
    placement: Placement,
    kubeflow: Kubeflow,
    experiment_id: str,
    tell: Callable[[str], None],
    no_reuse: Collection[str] = (),
) -> tuple[str, dict[str, Any]]:
    """Compile the sweep for a cluster and start it; see ``pipelines.cluster.submit.start``.

    Raises:
        ClusterError: the endpoint refuses or does not answer.
    """
    from pipelines.graph.placement import CHECKPOINTS
    from pipelines.graph.sweep import compile_sweep

    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / DOCUMENT
        compile_sweep(
            document,
            resolved.fractions,
            parallelism=resolved.sweep.parallelism,
            placement=placement,
            claims=claims_in(resolved.addresses),
            split_with_model=resolved.split_with_model,
            store=resolved.publish["store"],
            no_reuse=no_reuse,
        )
        name = f"{resolved.sweep.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        tell(f"{len(resolved.trials)} trials, {resolved.sweep.parallelism} at a time")
        arguments = resolved.arguments(CHECKPOINTS)
        return kubeflow.submit(document, arguments, name, experiment_id), arguments
