"""Training on several GPUs of one pod: one process for each GPU, data parallel through accelerate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.errors import KilledError
from components.train_lora.job import JOB, forwarding_sigterm, raise_reported_error


def n_processes() -> int:
    """The number of processes that train together; 1 outside of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The rank of this process; rank 0 writes all files."""
    return int(os.environ.get("RANK", "0"))


def n_to_start() -> int:
    """The number of processes that should train: one for each visible GPU; 1 in a process that is one of several."""
    import torch

    return max(torch.cuda.device_count(), 1) if n_processes() == 1 else 1


def train_distributed(n: int, job: Mapping[str, Any], job_dir: Path | None = None) -> None:
    """Run ``components.train_lora`` in ``n`` processes; ``job`` has the arguments of ``train`` in a form fit for JSON.

    Raises:
        InterruptedTrainingError: SIGTERM came; a checkpoint is written.
        LorryError: the error of the process that failed first.
        KilledError: a signal ended one of them.
    """
    with tempfile.TemporaryDirectory(prefix="lorry-train-") as folder:
        path = Path(folder) / JOB
        path.write_text(json.dumps({**job, "job_dir": None if job_dir is None else str(job_dir)}))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
        command += ["-m", "components.train_lora", str(path)]
        threads = max((os.cpu_count() or n) // n, 1)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        # The processes that the launcher starts inherit the pipe and end with this process.
        started = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        with forwarding_sigterm(started) as (child, stopped):
            code = child.wait()
        if code == 0:
            return
        raise_reported_error(path, stopped=bool(stopped))
    raise KilledError(f"one of {n} processes that train together was killed (exit code {code} of their launcher)")


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is true in any of the processes; all must call this at the same point."""
    import torch

    if n_processes() == 1:
        return flag
    return bool(_all_reduced(torch.tensor([float(flag)]))[0] > 0)


def sum_over_processes(values: Sequence[float]) -> list[float]:
    """The sum of each value over the processes; all must call this at the same point."""
    import torch

    if n_processes() == 1:
        return list(values)
    return [float(value) for value in _all_reduced(torch.tensor(values, dtype=torch.float64))]


def _all_reduced(values: Any) -> Any:
    import torch

    values = values.to("cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(values)
    return values


def barrier() -> None:
    """Wait until every process has called this."""
    import torch

    if n_processes() > 1:
        torch.distributed.barrier()
