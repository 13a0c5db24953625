"""Errors of a machine without enough memory or disk space, with advice on what to change."""

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

# With less free space than this, any failure to write counts as a full disk.
FULL_BYTES = 1 << 20


@contextmanager
def explain_out_of_memory(config: TrainConfig, device: Device) -> Iterator[None]:
    """Replace an error of exhausted GPU or machine memory by one that says which setting to lower.

    Raises:
        OutOfMemoryError: memory ran out.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        total = torch.cuda.get_device_properties(0).total_memory / 1e9
        where = f"{device.hardware} ({total:.0f} GB)"
        raise OutOfMemoryError(f"out of memory on {where}: {_advice(config, device, error)}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemoryError(f"out of memory on {device.hardware}: {_advice(config, device, error)}") from error


def _advice(config: TrainConfig, device: Device, error: BaseException) -> str:
    return memory_advice(
        config,
        precision=device.precision,
        base_quantization=device.quantization,
        in_validation=MEASURING in getattr(error, "__notes__", ()),
    )


@contextmanager
def explain_full_disk(run_dir: Path) -> Iterator[None]:
    """Replace the error of a full disk by one that names the newest checkpoint; remove the unfinished one.

    Raises:
        DiskSpaceError: the disk of the checkpoints is full.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error, run_dir):
            raise
        if rank() == 0:
            shutil.rmtree(run_dir / checkpoints.STAGING, ignore_errors=True)
        newest = checkpoints.newest(run_dir)
        state = "no checkpoint is written yet" if newest is None else f"{newest.name} is complete"
        free = shutil.disk_usage(run_dir).free / 1e6
        raise DiskSpaceError(
            f"{run_dir}: the disk is full ({free:.0f} MB free); {state}: free some space, and run the same command "
            "again to go on from there"
        ) from error


def _is_full(error: Exception, run_dir: Path) -> bool:
    """Whether a full disk caused an error: torch and safetensors raise errors of their own for it."""
    if isinstance(error, LorryError):
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or (
        isinstance(error, OSError | RuntimeError) and shutil.disk_usage(run_dir).free < FULL_BYTES
    )
