"""Train one trial to the end of its rung, and write its record."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from components.artifacts.contracts import HISTORY_NAME, RUN_RECORD_NAME, TRIAL_NAME, BaseModelRef, RunRecord, Trial
from components.artifacts.run_record import read_record
from components.errors import LorryError
from components.train_lora.config import TrainConfig
from components.train_lora.supervise import train_supervised

log = logging.getLogger(__name__)


def run_trial(
    trial: Trial,
    config: TrainConfig,
    base_model: BaseModelRef,
    *,
    fraction: float,
    code: str,
    checkpoint_root: str,
    train_path: str,
    validation_path: str,
    record_path: str,
) -> RunRecord:
    """Train to ``fraction`` of the trial's steps, from an earlier rung's checkpoint if there is one; write its folder.

    The folder holds ``run.json``, ``history.jsonl`` and ``trial.json``. The record of a trial that diverged or ran out
    of memory has that status. The weights are in the checkpoints.

    Raises:
        LorryError: training failed for another reason, or was stopped.
    """
    log.info("trial %s: to %.0f %% of its steps", trial.name, 100 * fraction)
    own = config.model_copy(update={"stop_after_fraction": min(fraction, config.stop_after_fraction)})
    with tempfile.TemporaryDirectory(prefix="lorry-trial-") as adapter:
        try:
            record = train_supervised(
                own,
                base_model,
                code=code,
                checkpoint_root=checkpoint_root,
                train_path=train_path,
                validation_path=validation_path,
                adapter_path=adapter,
            )
        except LorryError as error:
            # Of several processes each writes the record of its failure; their launcher has only the error's message.
            if not (Path(adapter) / RUN_RECORD_NAME).is_file():
                raise
            record = read_record(adapter)
            log.warning("trial %s %s: %s; the sweep continues", trial.name, record.status.replace("_", " "), error)
        folder = Path(record_path)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RUN_RECORD_NAME, HISTORY_NAME):
            if (written := Path(adapter) / name).is_file():
                shutil.copy(written, folder / name)
    (folder / TRIAL_NAME).write_text(trial.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record
