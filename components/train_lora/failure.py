"""The record of a run that failed because of its settings. It is a result too: a sweep's table has a row for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from components.artifacts.contracts import HISTORY_NAME, RunRecord
from components.artifacts.run_record import write_record
from components.errors import OutOfMemoryError, TrialFailedError
from components.train_lora.history import History


def figures_of_failed(error: TrialFailedError, run_dir: Path) -> dict[str, Any]:
    """What was measured before the failure, as fields of RunRecord."""
    history = History(run_dir / HISTORY_NAME, run_dir, writes=False)
    best = history.best()
    last = max((entry["step"] for entry in history.entries), default=0)
    return {
        "status": "out_of_memory" if isinstance(error, OutOfMemoryError) else "diverged",
        "reason": str(error),
        "stopped_by": None,
        "trainable_parameters": None,
        "total_parameters": None,
        "steps": last,
        "max_steps": None,
        "minutes": history.minutes(),
        "tokens_per_second": history.tokens_per_second(),
        "base_eval_loss": history.eval_losses().get(0),
        "best_eval_loss": best[1] if best else None,
        "best_step": best[0] if best else None,
        "adapter_step": last,
        "final_eval_loss": None,
    }


def write_failed(record: RunRecord, run_dir: Path, folder: Path) -> None:
    """Write the record and the history, without weights, into the adapter's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if (history := run_dir / HISTORY_NAME).is_file():
        shutil.copy(history, folder / HISTORY_NAME)
    write_record(record, folder)
