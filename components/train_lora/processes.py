"""Several GPUs in one pod: a process each, which take every step together (data parallel, by accelerate's means)."""

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
from components.train_lora.job import JOB, forwarding_sigterm, raise_what_was_said


def n_processes() -> int:
    """How many processes train together; in each of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is; the first, 0, is the one that writes."""
    return int(os.environ.get("RANK", "0"))


def wanted() -> int:
    """How many processes should train: one a GPU that is seen; 1 in a process that is one of several already."""
    import torch

    return max(torch.cuda.device_count(), 1) if n_processes() == 1 else 1


def train_distributed(n: int, job: Mapping[str, Any], job_dir: Path | None = None) -> None:
    """Run ``components.train_lora`` in ``n`` processes; ``job`` holds the arguments of ``train``, as JSON takes them.

    Raises:
        InterruptedTrainingError: SIGTERM came; a checkpoint is written.
        LorryError: what the first process that failed said.
        KilledError: a signal ended one of them.
    """
    with tempfile.TemporaryDirectory(prefix="lorry-train-") as folder:
        path = Path(folder) / JOB
        path.write_text(json.dumps({**job, "job_dir": None if job_dir is None else str(job_dir)}))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
        threads = max((os.cpu_count() or n) // n, 1)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        command += ["-m", "components.train_lora", str(path)]
        # The processes that the launcher starts inherit the pipe and end with this process.
        started = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        with forwarding_sigterm(started) as (child, stopped):
            code = child.wait()
        if code == 0:
            return
        raise_what_was_said(path, stopped=bool(stopped))
    raise KilledError(f"one of {n} processes that train together was killed (exit code {code} of their launcher)")


def agree(flag: bool) -> bool:
    """Whether any of the processes says so; each must ask at the same time."""
    import torch

    if n_processes() == 1:
        return flag
    return bool(_summed(torch.tensor([float(flag)]))[0] > 0)


def together(values: Sequence[float]) -> list[float]:
    """The sums of each value over the processes; each must ask at the same time."""
    import torch

    if n_processes() == 1:
        return list(values)
    return [float(value) for value in _summed(torch.tensor(values, dtype=torch.float64))]


def _summed(values: Any) -> Any:
    import torch

    values = values.to("cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(values)
    return values


def wait_for_all() -> None:
    """Wait until every process is here."""
    import torch

    if n_processes() > 1:
        torch.distributed.barrier()
