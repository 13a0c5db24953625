"""A training process, alone or one of several: ``python -m components.train_lora JOB``."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path

from components.artifacts.contracts import BaseModelRef
from components.errors import KilledError, LorryError
from components.runtime.kfp_step import plain_logs
from components.runtime.parent_death import call_on_parent_death
from components.train_lora.config import TrainConfig
from components.train_lora.job import SIGNAL_CODE, write_error
from components.train_lora.processes import rank
from components.train_lora.train import train


def main() -> int:
    """Train as the job file says; an error that ends the process is written beside that file."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    # Each process is a session of its own, which no signal to the parent's group reaches.
    call_on_parent_death(lambda: os._exit(1))
    plain_logs(logging.INFO if rank() == 0 else logging.ERROR)
    config, base_model = (job.pop(name) for name in ("config", "base_model"))
    job_dir = Path(job.pop("job_dir", None) or path.parent)
    try:
        train(TrainConfig.model_validate(config), BaseModelRef.model_validate(base_model), **job, job_dir=job_dir)
    except KilledError:
        # One of the processes that this one started was killed: its own exit code says the same.
        return SIGNAL_CODE + signal.SIGKILL
    except LorryError as error:
        write_error(path, rank(), error)
        return 1
    except BaseException as error:
        write_error(path, rank(), error)  # otherwise it would count as killed
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
