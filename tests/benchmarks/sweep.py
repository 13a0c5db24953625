"""Successive halving beside the full grid, on the tiny base: the best loss of each, and the steps that they took.

    python tests/benchmarks/sweep.py [--workdir .lorry-bench-sweep]

Eight settings of the recipe tests/data/tiny.yaml, over its rows four times. Both run with ``lorry sweep`` in work
folders of their own, made anew, so that neither finds the other's checkpoints. Prints a table; exits 1 where halving
misses the grid's best validation loss by more than 1 % or takes more than half its steps.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.compare_runs.compare import Comparison
from components.runtime.cores import usable_cores
from tests.conftest import ROOT, run_lorry

PROMISED_LOSS, PROMISED_STEPS = 0.01, 0.5
SWEEP = """\
name: {name}
recipe: {recipe}
grid:
  train.learning_rate: [3e-4, 1e-3, 3e-3, 1e-2]
  train.lora_rank: [32, 128]
"""
HALVING = "halving: {reduction_factor: 3, rungs: 3}\n"


def main() -> int:
    """Run both, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path(".lorry-bench-sweep"), help="removed and made anew")
    folder = parser.parse_args().workdir.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    measured = {name: run_sweep(folder, name, text) for name, text in (("grid", ""), ("halving", HALVING))}
    (grid, grid_seconds), (halving, halving_seconds) = measured["grid"], measured["halving"]
    table = Table(title=f"{usable_cores()} cores, {time.strftime('%Y-%m-%d')}", title_justify="left")
    for heading in ("sweep", "trials", "steps", "seconds", "best setting", "its validation loss"):
        table.add_column(heading)
    for name, (comparison, seconds) in measured.items():
        best = comparison.sets[0].ranking[0]
        table.add_row(
            name, str(len(comparison.runs)), str(steps(comparison)), f"{seconds:.0f}", best.name, f"{best.loss:.4f}"
        )
    Console(width=140).print(table)
    apart = best_loss(halving) / best_loss(grid) - 1
    share = steps(halving) / steps(grid)
    judged = [
        (f"halving's best is {100 * apart:+.2f} % from the grid's (promised: within 1 %)", apart <= PROMISED_LOSS),
        (f"it took {100 * share:.1f} % of the steps (promised: at most 50 %)", share <= PROMISED_STEPS),
    ]
    for told, good in judged:
        print(f"{told}  {'ok' if good else 'SHORT'}")
    print(f"seconds: {grid_seconds:.0f} and {halving_seconds:.0f}, the start of each trial's process included")
    return 0 if all(good for _, good in judged) else 1


def run_sweep(folder: Path, name: str, more: str) -> tuple[Comparison, float]:
    """One sweep, and the seconds that it took."""
    document = folder / f"{name}.yaml"
    document.write_text(SWEEP.format(name=name, recipe=ROOT / "tests" / "data" / "tiny.yaml") + more)
    started = time.monotonic()
    done = run_lorry("sweep", document, "--workdir", folder / name, timeout=3600)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    (result,) = (folder / name / "sweeps").iterdir()
    return Comparison.model_validate_json((result / "comparison.json").read_bytes()), seconds


def steps(comparison: Comparison) -> int:
    """Optimizer steps of all trials: a continued one goes on from its checkpoint, so its last step counts all."""
    return sum(run.steps for run in comparison.runs)


def best_loss(comparison: Comparison) -> float:
    """The lowest validation loss among trials that ran to their end."""
    return comparison.sets[0].ranking[0].loss


if __name__ == "__main__":
    sys.exit(main())
