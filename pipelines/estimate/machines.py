"""Where a step runs, and how fast it computes there according to published figures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from components.runtime.cores import usable_cores
from components.runtime.memory import memory_limit
from pipelines.config.pools import Placement, Pool
from pipelines.config.steps import STEPS

UNITS = {"M": 10**6, "G": 10**9, "T": 10**12, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
CPUINFO = Path("/proc/cpuinfo")
# What Argo and Kubeflow take for a step: the driver's pod, then its own (docs/benchmarks.md).
SECONDS_A_POD = 20.0


@dataclass(frozen=True)
class Speed:
    """Rates of one kind of hardware, before earlier runs correct them.

    ``flops`` a second in the matrix products of training; ``bytes_per_second`` of what lies between them and of
    weights that are read for each token; ``gguf_flops`` a second of llama.cpp on the same machine's CPU.
    ``spread`` is how far the real speed may be from it: 0.5 for half as fast again.
    """

    flops: float
    bytes_per_second: float
    gguf_flops: float
    spread: float
    source: str
    bfloat16: bool = True


# Of one core with AVX-512, or with AVX2 alone: docs/benchmarks.md, "Training on a CPU" and "The model server".
_CORE = Speed(240e9, 9e9, 150e9, 0.6, "docs/benchmarks.md, cores with AVX-512")
_SMALL_CORE = Speed(110e9, 8e9, 60e9, 0.8, "docs/benchmarks.md, cores with AVX2")
_CORE_OF_A_POOL = Speed(160e9, 8e9, 90e9, 1.0, "docs/benchmarks.md, cores of unknown kind")
# Effective rates of whole trainings: 3B in 4 bits, 60 steps of 8 FineTome rows in 446.5 s (Unsloth's notebook), and the
# 1B runs of published-runs.csv; for an A100 torchtune's README, 3B packed to 4,096 tokens, 8,210 tokens/s.
GPUS = {
    "t4": Speed(9e12, 250e9, 60e9, 0.7, "Unsloth's notebook on a T4, and the published 1B runs", bfloat16=False),
    "a100": Speed(190e12, 1500e9, 60e9, 1.0, "torchtune's README on an A100"),
}
_UNKNOWN_GPU = Speed(40e12, 600e9, 60e9, 4.0, "between a T4 and an A100: no figures for this GPU")


@dataclass(frozen=True)
class Machine:
    """What a step has where it runs. ``memory_bytes`` is the limit of its pod, or the memory of this machine."""

    name: str
    cores: float
    memory_bytes: int | None
    speed: Speed
    gpus: int = 0
    gpu_bytes: int | None = None
    pod_seconds: float = 0.0
    price_per_hour: float | None = None

    @property
    def has_gpu(self) -> bool:
        return self.gpus > 0

    @property
    def without_gpu(self) -> Machine:
        """The cores of this machine alone, on which export and measuring of the file run."""
        return Machine(self.name, self.cores, self.memory_bytes, speed_of_cores(self.cores)) if self.gpus else self


@dataclass(frozen=True)
class Place:
    """Where the steps of a run are: on this machine, or on the pools of a placement."""

    name: str
    placement: Placement | None
    here: Machine

    def machine_of(self, step: str, *, splits_with_model: bool = False) -> Machine:
        """The machine of a step."""
        pool = STEPS[step].pool
        if self.placement is None:
            return self.here if pool == "gpu" else self.here.without_gpu
        takes_chosen = pool == "gpu" or (step == "split_data" and splits_with_model)
        name = self.placement.pool if takes_chosen else pool
        return machine_of_pool(name, self.placement.pools[name])

    @property
    def currency(self) -> str:
        return "" if self.placement is None else self.placement.currency


def place(placement: Placement | None) -> Place:
    """This machine where ``placement`` is None, else its pools."""
    name = "this machine" if placement is None else f"pool {placement.pool}"
    return Place(name, placement, this_machine())


def this_machine() -> Machine:
    """The machine of this process."""
    cores = usable_cores()
    limit = memory_limit()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = memory if limit is None else min(memory, limit)
    gpu = gpu_here()
    if gpu is not None:
        return Machine("this machine", cores, memory, _speed_of_gpu(gpu[0]), gpus=1, gpu_bytes=gpu[1])
    return Machine("this machine", cores, memory, speed_of_cores(cores))


def speed_of_cores(cores: float) -> Speed:
    """The speed of so many cores of this machine."""
    has_avx512 = CPUINFO.is_file() and " avx512f" in CPUINFO.read_text(errors="replace")
    return _of_cores(_CORE if has_avx512 else _SMALL_CORE, cores)


def gpu_here() -> tuple[str, int] | None:
    """The name and the bytes of the first GPU of this machine, as the driver's own program gives them."""
    if (program := shutil.which("nvidia-smi")) is None:
        return None
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    name, _, mebibytes = done.stdout.partition("\n")[0].rpartition(",")
    return (name.strip(), int(mebibytes) * 2**20) if done.returncode == 0 and mebibytes.strip().isdigit() else None


def _of_cores(one: Speed, cores: float) -> Speed:
    return Speed(one.flops * cores, one.bytes_per_second * cores, one.gguf_flops * cores, one.spread, one.source)


def machine_of_pool(name: str, pool: Pool) -> Machine:
    """What a step gets on a pool."""
    cores = float(pool.cpu.removesuffix("m")) / (1000 if pool.cpu.endswith("m") else 1)
    selector = " ".join([name, *pool.node_selector.values()])
    speed = _speed_of_gpu(selector) if pool.gpus else _of_cores(_CORE_OF_A_POOL, cores)
    return Machine(
        f"pool {name}",
        cores,
        bytes_of(pool.memory),
        speed,
        gpus=pool.gpus,
        gpu_bytes=None if pool.gpu_memory is None or not pool.gpus else bytes_of(pool.gpu_memory),
        pod_seconds=SECONDS_A_POD,
        price_per_hour=pool.price_per_hour,
    )


def _speed_of_gpu(text: str) -> Speed:
    words = re.split(r"[^a-z0-9]+", text.lower())
    return next((speed for gpu, speed in GPUS.items() if gpu in words), _UNKNOWN_GPU)


def bytes_of(quantity: str) -> int:
    """Bytes of a quantity with its unit, such as ``16Gi``."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Z]i?)", quantity).groups()  # type: ignore[union-attr]
    return round(float(number) * UNITS[unit])
