"""A process that trains, alone or with others: ``python -m components.train_lora JOB``."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from components.artifacts.contracts import BaseModelRef
from components.errors import KilledError, LorryError
from components.runtime.kfp_step import plain_logs
from components.train_lora.config import TrainConfig
from components.train_lora.job import SIGNAL_CODE, STARTER, say_error
from components.train_lora.processes import rank
from components.train_lora.train import train


def main() -> int:
    """Train as the job says; a process that ends by an error tells it in a file beside the job."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    threading.Thread(target=_end_with_parents, daemon=True).start()
    plain_logs(logging.INFO if rank() == 0 else logging.ERROR)
    config, base_model = (job.pop(name) for name in ("config", "base_model"))
    job_dir = Path(job.pop("job_dir", None) or path.parent)
    try:
        train(TrainConfig.model_validate(config), BaseModelRef.model_validate(base_model), **job, job_dir=job_dir)
    except KilledError:
        # Those that trained together are this process's own: it ends as they did.
        return SIGNAL_CODE + signal.SIGKILL
    except LorryError as error:
        say_error(path, rank(), error)
        return 1
    except BaseException as error:
        say_error(path, rank(), error)  # without a word it would count as killed
        raise
    return 0


def _end_with_parents() -> None:
    """End when the launcher, or who started it, is gone: each process is a session of its own, and no signal comes."""
    launcher, starter = os.getppid(), int(os.environ[STARTER])
    while os.getppid() == launcher and psutil.pid_exists(starter):
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
