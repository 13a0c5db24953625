"""Small runs of training, here and in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef, RunRecord
from components.train_lora.config import TrainConfig
from components.train_lora.train import train
from tests.conftest import ROOT

SETTINGS = {
    "lora_rank": 4,
    "learning_rate": 0.01,
    "warmup_steps": 1,
    "max_steps": 6,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_length": 96,
    "eval_steps": 2,
    "save_steps": 2,
    "logging_steps": 1,
}


def run(
    base: BaseModelRef, rows: Path, folder: Path, by: Callable[..., RunRecord] = train, **settings: Any
) -> RunRecord:
    """Train on the rows in the folder ``rows``; checkpoints and adapter go into ``folder``."""
    return by(
        TrainConfig.model_validate({**SETTINGS, **settings}),
        base,
        code="test",
        checkpoint_root=str(folder / "checkpoints"),
        train_path=str(rows / "train"),
        validation_path=str(rows / "validation"),
        adapter_path=str(folder / "adapter"),
    )


def weights(folder: Path) -> bytes:
    """The bytes of the adapter."""
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def losses(folder: Path) -> list[tuple[int, float | None, float | None]]:
    """Step, loss and validation loss of each entry of the history."""
    entries = map(json.loads, (folder / "adapter" / "history.jsonl").read_text().splitlines())
    return [(entry["step"], entry.get("loss"), entry.get("eval_loss")) for entry in entries]


TRAIN = """
import json, sys
from pathlib import Path
from components.artifacts.contracts import BaseModelRef
from tests.components.train_lora.training import run
run(BaseModelRef.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), **json.loads(sys.argv[4]))
"""


def start_training(base: BaseModelRef, rows: Path, folder: Path, **settings: Any) -> subprocess.Popen[str]:
    """``run`` in a process of its own."""
    arguments = [base.model_dump_json(), str(rows), str(folder), json.dumps(settings)]
    return subprocess.Popen([sys.executable, "-c", TRAIN, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for(folder: Path, pattern: str, child: subprocess.Popen[str]) -> None:
    """Wait until the child has made a file or folder below ``folder``."""
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert child.poll() is None, child.stderr and child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
