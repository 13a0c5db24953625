"""Peaks of memory beside published and measured ones."""

from __future__ import annotations

import pytest

from components.artifacts.contracts import BaseModelRef
from components.evaluate.config import EvaluateConfig
from components.train_lora.config import TrainConfig
from pipelines.config.pools import Placement
from pipelines.estimate.machines import Machine, place
from pipelines.estimate.memory import (
    Precision,
    evaluation_peak,
    export_peak,
    gguf_evaluation_peak,
    precision_of,
    split_peak,
    training_peak,
)  # fmt: skip
from pipelines.estimate.schedule import Batch, schedule_of, validation_batch
from tests.pipelines.estimate.conftest import LLAMA_1B, LLAMA_3B, SMOLLM2, rows

BASE = BaseModelRef(address="owner/name", revision="1", weight_bytes=1)
ONE_ROW = Batch(1, 1, 1)


def machine(pool: str) -> Machine:
    return place(Placement().on(pool)).machine_of("train_lora")


@pytest.mark.parametrize(
    ("base_quantization", "gibibytes"),
    # torchtune's README, A100: 3B packed to 4,096 tokens, gradient checkpointing.
    [("none", 8.5), ("nf4", 4.6)],
)
def test_a_3b_on_an_a100_takes_what_torchtune_publishes(shape_of, base_quantization, gibibytes):
    train = TrainConfig(
        packing=True, max_length=4096, per_device_train_batch_size=1, gradient_checkpointing=True,
        base_quantization=base_quantization,
    )  # fmt: skip
    precision = precision_of(train, BASE, machine("a100"))
    largest = schedule_of(train, rows(100, 500), 1).largest
    peak = training_peak(shape_of(LLAMA_3B), train, precision, machine("a100"), largest, ONE_ROW)
    assert peak.gpu / 2**30 == pytest.approx(gibibytes, rel=0.15)


def test_the_demo_takes_what_its_process_took(shape_of):
    train = TrainConfig(packing=True, max_length=512, per_device_train_batch_size=1)
    here = Machine("this machine", 2, None, machine("cpu").speed)
    shape = shape_of(SMOLLM2)
    largest = schedule_of(train, rows(700, 60, 20), 1).largest
    validation = validation_batch(shape, rows(40, 60, 20), 8)
    peak = training_peak(shape, train, precision_of(train, BASE, here), here, largest, validation)
    assert (peak.host / 1e9, peak.gpu) == (pytest.approx(3.11, rel=0.1), None)


def test_a_run_of_the_1b_takes_what_its_steps_took(shape_of):
    """Measured in a run of 12 steps of 512 tokens on 2 cores, 2026-11-28; GB."""
    shape = shape_of(LLAMA_1B)
    train = TrainConfig(packing=True, max_length=256, per_device_train_batch_size=1)
    here = Machine("this machine", 2, None, machine("cpu").speed)
    validation = validation_batch(shape, rows(8, 60, 20), 8)
    largest = schedule_of(train, rows(700, 60, 20), 1).largest
    peaks = [
        split_peak(shape),
        training_peak(shape, train, precision_of(train, BASE, here), here, largest, validation),
        evaluation_peak(shape, train, EvaluateConfig(), here, validation),
        export_peak(shape),
        gguf_evaluation_peak(shape, 2_475_000_000, 807_700_000, 100),
    ]
    assert [peak.host / 1e9 for peak in peaks] == pytest.approx([1.29, 8.74, 8.64, 3.87, 8.92], rel=0.1)


@pytest.mark.parametrize(
    ("pool", "asked", "expected"),
    [
        ("t4", "auto", Precision(2, nf4=True)),
        ("t4", "none", Precision(2, nf4=False)),
        ("a100", "auto", Precision(2, nf4=False)),
        ("a100", "nf4", Precision(2, nf4=True)),
        ("cpu", "auto", Precision(4, nf4=False)),
    ],
)
def test_the_precision_is_that_of_the_trainer(pool, asked, expected):
    assert precision_of(TrainConfig(base_quantization=asked), BASE, machine(pool)) == expected


def test_a_base_published_in_four_bits_stays_so():
    published = BASE.model_copy(update={"quantization": "nf4"})
    assert precision_of(TrainConfig(base_quantization="none"), published, machine("a100")).nf4


def test_each_setting_that_saves_memory_saves_some(shape_of):
    shape = shape_of(LLAMA_1B)

    def peak(tokens: int = 4096, nf4: bool = False, validation: Batch = ONE_ROW, **settings: object) -> float:
        train = TrainConfig.model_validate(settings)
        found = training_peak(
            shape, train, Precision(2, nf4=nf4), machine("t4"), Batch(tokens, tokens // 2, tokens), validation
        )
        assert found.gpu is not None
        return found.gpu

    assert peak(gradient_checkpointing=True) < peak()
    assert peak(nf4=True) < peak()
    assert peak(tokens=2048) < peak()
    assert peak(lora_rank=8) < peak()
    assert peak(validation=Batch(200_000, 200_000, 1000)) > peak()


def test_later_steps_hold_the_weights_as_they_load_them(shape_of):
    shape = shape_of(LLAMA_1B)
    f16 = 2 * shape.n_parameters
    here = Machine("this machine", 2, None, machine("cpu").speed)
    evaluated = evaluation_peak(shape, TrainConfig(), EvaluateConfig(), here, ONE_ROW)
    assert evaluated.host > 4 * shape.n_parameters
    assert export_peak(shape).host > f16
    assert gguf_evaluation_peak(shape, f16, f16 // 3, 500).host > 4 * shape.n_parameters + f16
    on_gpu = evaluation_peak(shape, TrainConfig(), EvaluateConfig(), machine("t4"), ONE_ROW).gpu
    assert on_gpu is not None
    assert f16 < on_gpu < 2 * f16
