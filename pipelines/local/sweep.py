"""A sweep on this machine, and what a sweep leaves there wherever it ran."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from components.compare_runs.compare import Comparison
from components.compare_runs.report import CHART, DATA, PAGE, RECIPE, TABLE
from components.errors import StepFailedError
from pipelines.config.steps import SWEEP_STEPS, WINNER_EVALUATION
from pipelines.local.run import DOCUMENT, run_document
from pipelines.local.workdir import Workdir, keep_outputs, new_folder, outputs_in
from pipelines.resolve.trials import ResolvedSweep
from pipelines.terminal.progress import Progress

TRIALS = "trials"


@dataclass(frozen=True)
class SweepResult:
    """A sweep's folder with its reports and, where it ran on this machine, a folder for each trial in ``trials/``.

    ``winners`` are the metrics of each winner's evaluation, which is the only one on the test rows.
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
    def test_losses(self) -> list[str]:
        """A line for each winner with its loss on the test rows."""
        return [
            f"winner on the test rows: loss {metrics['base_test_loss']:.4f} untuned, "
            f"{metrics['tuned_test_loss']:.4f} tuned"
            for metrics in self.winners
            if "tuned_test_loss" in metrics
        ]

    @property
    def locations(self) -> dict[str, Path]:
        """Paths of what a person opens, by what they are."""
        names = {"report": PAGE, "as Markdown": TABLE, "loss curves": CHART, "best recipe": RECIPE, "trials": TRIALS}
        names |= {"winner on the test rows": WINNER_EVALUATION, "log": "log.txt"}
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
    with_model = resolved.split_with_model
    compile_sweep(folder / DOCUMENT, resolved.fractions, split_with_model=with_model, no_reuse=no_reuse)
    try:
        run_document(folder, resolved.arguments(workdir.checkpoints), workdir, progress)
    except StepFailedError:
        _keep(folder)
        raise
    _keep(folder)
    outputs = outputs_in(folder)
    return SweepResult(folder, [one.figures for one in outputs if (one.step, one.name) == ("evaluate", "metrics")])


def _keep(folder: Path) -> None:
    keep_outputs(folder, SWEEP_STEPS)
    for output in outputs_in(folder):
        if (output.step, output.name) == ("promote_trials", "runs"):
            shutil.copytree(output.path, folder / TRIALS, dirs_exist_ok=True)
