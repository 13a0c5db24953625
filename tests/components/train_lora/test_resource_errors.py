"""A machine without enough memory or disk space: which errors are recognized, and what each message advises."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from components.errors import DataError, DiskSpaceError, OutOfMemoryError
from components.train_lora import resource_errors
from components.train_lora.advice import MEASURING, memory_advice
from components.train_lora.checkpoints import STAGING
from components.train_lora.config import TrainConfig
from components.train_lora.device import Device
from components.train_lora.resource_errors import explain_full_disk, explain_out_of_memory

CPU = Device("CPU (x86_64, 2 threads)", "float32", None, 1)
T4 = Device("1 x T4", "float16", "nf4", 1)
SMALL = {"per_device_train_batch_size": 1, "gradient_checkpointing": True}
Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("settings", "precision", "quantization", "advice"),
    [
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, "bfloat16", None,
         "set train.per_device_train_batch_size 2 (it is 4) and gradient_accumulation_steps 6 (it is 3)"),
        ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}, "bfloat16", None,
         "set train.per_device_train_batch_size 1 (it is 3) and gradient_accumulation_steps 6 (it is 2)"),
        ({"per_device_train_batch_size": 1}, "bfloat16", None, "set train.gradient_checkpointing true"),
        (SMALL, "bfloat16", None, "set train.base_quantization nf4"),
        (SMALL, "float16", "nf4", "set train.max_length 1024 (it is 2048)"),
        (SMALL, "float32", None, "set train.max_length 1024 (it is 2048)"),
    ],
)  # fmt: skip
def test_the_advice_is_the_cheapest_setting_that_is_left(settings, precision, quantization, advice):
    config = TrainConfig.model_validate(settings)
    assert memory_advice(config, precision=precision, base_quantization=quantization).startswith(advice)


@pytest.mark.parametrize(("n_rows", "n_batches"), [(2, 4), (3, 5), (5, 1), (8, 2)])
def test_the_advice_for_rows_keeps_the_rows_of_a_step(n_rows, n_batches):
    config = TrainConfig(per_device_train_batch_size=n_rows, gradient_accumulation_steps=n_batches)
    words = memory_advice(config, precision="float32", base_quantization=None).split()
    rows, batches = (int(words[words.index(name) + 1]) for name in ("train.per_device_train_batch_size",
                                                                   "gradient_accumulation_steps"))  # fmt: skip
    assert rows < n_rows
    assert rows * batches == n_rows * n_batches


def test_the_advice_for_a_validation_lowers_its_rows_as_long_as_there_are_several():
    asked = {"precision": "bfloat16", "base_quantization": None, "in_validation": True}
    advice = memory_advice(TrainConfig(per_device_eval_batch_size=8), **asked)
    assert advice.startswith(f"{MEASURING}; set train.per_device_eval_batch_size 4 (it is 8)")
    assert "eval" not in memory_advice(TrainConfig(per_device_eval_batch_size=1), **asked)


def test_gpu_memory_that_runs_out_names_the_gpu_and_its_size(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=15.8e9))
    with (
        pytest.raises(OutOfMemoryError, match=r"out of memory on 1 x T4 \(16 GB\): set train.max_length 1024"),
        explain_out_of_memory(TrainConfig.model_validate(SMALL), T4),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_memory_of_the_machine_that_runs_out_is_recognized(error):
    with (
        pytest.raises(OutOfMemoryError, match=r"out of memory on CPU .*: set train.per_device_train_batch_size 1"),
        explain_out_of_memory(TrainConfig(), CPU),
    ):
        raise error


def test_an_error_of_a_validation_carries_its_note_into_the_advice():
    error = MemoryError()
    error.add_note(MEASURING)
    with pytest.raises(OutOfMemoryError, match=MEASURING), explain_out_of_memory(TrainConfig(), CPU):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("can't allocate memory")])
def test_other_errors_stay_what_they_are(error, tmp_path):
    with (
        pytest.raises(type(error)) as caught,
        explain_out_of_memory(TrainConfig(), CPU),
        explain_full_disk(tmp_path),
    ):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("PytorchStreamWriter failed writing file: No space left on device"),
        ValueError("SafetensorError: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_recognized_in_the_errors_of_all_libraries(error, tmp_path):
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / STAGING / "checkpoint-6").mkdir(parents=True)
    message = rf"{tmp_path}: the disk is full \(\d+ MB free\); checkpoint-4 is complete: free some space, and run"
    with pytest.raises(DiskSpaceError, match=message), explain_full_disk(tmp_path):
        raise error
    assert not (tmp_path / STAGING).exists()


def test_any_failure_to_write_on_a_disk_without_space_is_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, resource_errors.FULL_BYTES - 1))
    with pytest.raises(DiskSpaceError, match="no checkpoint is written yet"), explain_full_disk(tmp_path):
        raise RuntimeError("unexpected pos 64 vs 0")
    with pytest.raises(DataError), explain_full_disk(tmp_path):
        raise DataError("an error of Lorry's own is never taken for one")
    with pytest.raises(KeyError), explain_full_disk(tmp_path):
        raise KeyError("nor one that no write raises")


def test_only_the_first_of_several_processes_removes_the_unfinished_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    (tmp_path / STAGING).mkdir()
    with pytest.raises(DiskSpaceError), explain_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / STAGING).exists()
