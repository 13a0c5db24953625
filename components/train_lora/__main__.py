"""One of several processes that train together: ``python -m torch.distributed.run … -m components.train_lora JOB``."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

import psutil

from components.contracts import BaseModelRef
from components.errors import LorryError
from components.kfp_step import plain_logs
from components.train_lora.config import TrainConfig
from components.train_lora.processes import ERROR, STARTER, rank
from components.train_lora.train import train


def main() -> int:
    """Train as the job says; a process tells its error in a file beside the job."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    threading.Thread(target=_end_with_parents, daemon=True).start()
    plain_logs(logging.INFO if rank() == 0 else logging.ERROR)
    config, base_model = (job.pop(name) for name in ("config", "base_model"))
    try:
        train(TrainConfig.model_validate(config), BaseModelRef.model_validate(base_model), **job)
    except LorryError as error:
        path.with_name(f"{ERROR}.{rank()}").write_text(str(error))
        return 1
    return 0


def _end_with_parents() -> None:
    """End when the launcher, or who started it, is gone: each process is a session of its own, and no signal comes."""
    launcher, starter = os.getppid(), int(os.environ[STARTER])
    while os.getppid() == launcher and psutil.pid_exists(starter):
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
