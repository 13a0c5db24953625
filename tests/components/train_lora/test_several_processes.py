"""Two processes that train together, as one for each GPU does, here on a CPU."""

from __future__ import annotations

import shutil

import pytest

from components.artifacts.run_record import read_record
from components.errors import LorryError
from components.train_lora.config import TrainConfig
from components.train_lora.processes import train_distributed
from tests.components.train_lora.training import SETTINGS, losses, run, weights


def test_two_processes_take_the_steps_that_one_takes_and_resume(base, rows, tmp_path):
    settings = {**SETTINGS, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "max_steps": 4}
    one = run(base, rows, tmp_path / "one", **settings)
    job = {
        "config": TrainConfig.model_validate({**settings, "per_device_train_batch_size": 1}).model_dump(mode="json"),
        "base_model": base.model_dump(mode="json"),
        "code": "test",
        "checkpoint_root": str(tmp_path / "two" / "checkpoints"),
        "train_path": str(rows / "train"),
        "validation_path": str(rows / "validation"),
        "adapter_path": str(tmp_path / "two" / "adapter"),
    }
    train_distributed(2, job)
    two = read_record(str(tmp_path / "two" / "adapter"))
    assert (two.steps, two.run_key == one.run_key) == (4, False)
    alone, together = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [step for step, *_ in alone] == [step for step, *_ in together]
    for column in (1, 2):
        ours, theirs = (
            [entry[column] for entry in entries if entry[column] is not None] for entries in (together, alone)
        )
        assert ours == pytest.approx(theirs, rel=1e-4)
    before = weights(tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / two.run_key / "checkpoint-4")
    train_distributed(2, job)
    assert weights(tmp_path / "two") == before


def test_an_error_of_several_processes_is_that_of_the_first(base, rows, tmp_path):
    job = {"config": {**SETTINGS, "max_length": 5}, "base_model": base.model_dump(mode="json"), "code": "test"}
    job |= {"checkpoint_root": str(tmp_path), "adapter_path": str(tmp_path / "adapter")}
    job |= {"train_path": str(rows / "train"), "validation_path": str(rows / "validation")}
    with pytest.raises(
        LorryError, match=r"none of the 20 rows has a token of the assistant within train.max_length = 5"
    ):
        train_distributed(2, job)
