"""A machine that has not enough memory or room, in words that say which setting to lower and by how much."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from components.errors import DiskSpaceError, LorryError, OutOfMemoryError
from components.train_lora import checkpoints
from components.train_lora.advice import MEASURING, memory_advice
from components.train_lora.config import TrainConfig
from components.train_lora.device import Device
from components.train_lora.processes import rank

# Below this a disk is full, whatever a library says that could not write.
FULL_BYTES = 1 << 20


@contextmanager
def explain_out_of_memory(config: TrainConfig, device: Device) -> Iterator[None]:
    """Say what to lower when the memory of GPU or machine runs out.

    Raises:
        OutOfMemoryError: it ran out.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        total = torch.cuda.get_device_properties(0).total_memory / 1e9
        told = f"out of memory on {device.hardware} ({total:.0f} GB)"
        raise OutOfMemoryError(f"{told}: {_to_lower(config, device, error)}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemoryError(f"out of memory on {device.hardware}: {_to_lower(config, device, error)}") from error


def _to_lower(config: TrainConfig, device: Device, error: BaseException) -> str:
    return memory_advice(
        config,
        precision=device.precision,
        base_quantization=device.quantization,
        was_measuring=MEASURING in getattr(error, "__notes__", ()),
    )


@contextmanager
def explain_full_disk(run_dir: Path) -> Iterator[None]:
    """Say what is kept when the disk of the checkpoints is full, and remove what was written by half.

    Raises:
        DiskSpaceError: it is full.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error, run_dir):
            raise
        if rank() == 0:
            shutil.rmtree(run_dir / checkpoints.STAGING, ignore_errors=True)
        kept = checkpoints.newest(run_dir)
        state = "no checkpoint is written yet" if kept is None else f"{kept.name} is whole"
        free = shutil.disk_usage(run_dir).free / 1e6
        raise DiskSpaceError(
            f"{run_dir}: the disk is full ({free:.0f} MB free); {state}: make room, and run the same command again to "
            "go on from there"
        ) from error


def _is_full(error: Exception, run_dir: Path) -> bool:
    """Whether an error is a full disk's: torch and safetensors have words of their own for it."""
    if isinstance(error, LorryError):
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or (
        isinstance(error, OSError | RuntimeError) and shutil.disk_usage(run_dir).free < FULL_BYTES
    )
