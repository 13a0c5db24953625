"""SIGTERM in the middle of long steps: the seconds until the checkpoint is durable and the process is gone.

    python tests/benchmarks/stop.py [--stops 5] [--seed 0]

Trains the model of ``train_lora.py`` with 32 rows an optimizer step, which takes far longer than a stop may. Each stop
comes at a random moment of a step that is not the first; the next start resumes. Prints a table; exits 1 where a stop
takes more than 10 seconds or the checkpoint that it leaves is not of the last step that was done.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.artifacts.rows import row_id, write_rows
from components.train_lora import checkpoints
from tests.benchmarks.conversations import Writer
from tests.benchmarks.train_lora import make_base

PROMISED_SECONDS = 10
TRAIN = """
import json, sys
from components.artifacts.contracts import BaseModelRef
from components.errors import InterruptedTrainingError
from components.train_lora.config import TrainConfig
from components.train_lora.train import train
job = json.loads(sys.argv[1])
try:
    train(TrainConfig.model_validate(job.pop("config")), BaseModelRef.model_validate(job.pop("base_model")), **job)
except InterruptedTrainingError:
    sys.exit(3)
"""


def write_data(folder: Path, n_rows: int) -> None:
    """Rows for training and a few for validation."""
    writer = Writer(0)
    rows = []
    for _ in range(n_rows):
        turns = writer.conversation()
        roles = ("user", "assistant")
        messages = [Message(role=roles[i % 2], content=" ".join(turn[:200])) for i, turn in enumerate(turns)]
        rows.append(Row(id=row_id(messages), messages=messages))
    write_rows(rows[4:], str(folder / "train"))
    write_rows(rows[:4], str(folder / "validation"))


def job_in(folder: Path, base: BaseModelRef) -> str:
    """The arguments of a run that would take hours."""
    config = {"max_steps": 1000, "gradient_accumulation_steps": 16, "per_device_train_batch_size": 2}
    config |= {"max_length": 1024, "eval_steps": 1000, "save_steps": 1000, "save_minutes": 1000}
    paths = {f"{name}_path": str(folder / name) for name in ("train", "validation", "adapter")}
    root = {"checkpoint_root": str(folder / "checkpoints"), "code": "stop"}
    return json.dumps({"config": config, "base_model": base.model_dump(), **paths, **root})


def steps_done(folder: Path) -> int:
    """The last step that the history tells of."""
    for path in folder.glob("checkpoints/*/history.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return max((line["step"] for line in lines if "loss" in line), default=0)
    return 0


def stop_once(folder: Path, job: str, chance: random.Random) -> tuple[float, int, int, float]:
    """Seconds to stop, the step of the checkpoint that is left, the last step done, and seconds of a step."""
    child = subprocess.Popen([sys.executable, "-c", TRAIN, job], cwd=Path(__file__).parents[2])
    before = None
    begun: list[float] = []
    while len(begun) < 2:
        time.sleep(0.01)
        if child.poll() is not None:
            sys.exit("training ended by itself")
        if (folder / "checkpoints").is_dir() and (before is None or steps_done(folder) > before):
            before = steps_done(folder)
            if before:
                begun.append(time.monotonic())
    time.sleep(chance.uniform(0.1, 0.9) * (begun[1] - begun[0]))
    sent = time.monotonic()
    child.send_signal(signal.SIGTERM)
    code = child.wait()
    seconds = time.monotonic() - sent
    if code != 3:
        sys.exit(f"training ended with {code}, not with a checkpoint")
    run_dir = next((folder / "checkpoints").iterdir())
    newest = checkpoints.newest_valid(run_dir, run_dir.name)
    return seconds, checkpoints.step_of(newest) if newest else -1, steps_done(folder), begun[1] - begun[0]


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stops", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, 600)
        job = job_in(folder, make_base(folder / "base"))
        stops = [stop_once(folder, job, chance) for _ in range(options.stops)]
    table = Table(title="SIGTERM in the middle of a step")
    for heading in ("seconds of a step", "seconds until stopped", "last step done", "checkpoint of step"):
        table.add_column(heading)
    for seconds, saved, done, step in stops:
        table.add_row(f"{step:.1f}", f"{seconds:.2f}", str(done), str(saved))
    Console(width=120).print(table)
    slowest = max(seconds for seconds, *_ in stops)
    Console(width=120).print(f"slowest {slowest:.2f} s (promised under {PROMISED_SECONDS})")
    return 0 if slowest < PROMISED_SECONDS and all(saved == done for _, saved, done, _ in stops) else 1


if __name__ == "__main__":
    sys.exit(main())
