"""One of several processes that train together: ``python -m torch.distributed.run … -m components.train_lora JOB``."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from components.contracts import BaseModelRef
from components.errors import LorryError
from components.kfp_step import plain_logs
from components.train_lora.config import TrainConfig
from components.train_lora.processes import ERROR, rank
from components.train_lora.train import train


def main() -> int:
    """Train as the job says; the first process tells its error in a file beside the job."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    plain_logs(logging.INFO if rank() == 0 else logging.ERROR)
    config, base_model = (job.pop(name) for name in ("config", "base_model"))
    try:
        train(TrainConfig.model_validate(config), BaseModelRef.model_validate(base_model), **job)
    except LorryError as error:
        if rank() == 0:
            path.with_name(ERROR).write_text(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
