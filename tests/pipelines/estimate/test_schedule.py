"""The steps and tokens of a training, and its largest batch."""

from __future__ import annotations

import pytest

from components.train_lora.config import TrainConfig
from pipelines.estimate.lengths import SplitLengths
from pipelines.estimate.schedule import forward_work, n_packs, schedule_of, training_work, validation_batch
from tests.pipelines.estimate.conftest import LLAMA_1B, SMOLLM2, rows


@pytest.mark.parametrize(
    ("lengths", "n"),
    [([60, 50, 40, 50], 2), ([100, 100], 2), ([30] * 7, 3), ([90, 10, 91, 9], 2), ([], 0)],
)
def test_rows_are_packed_where_they_fit_best(lengths, n):
    assert n_packs(lengths, 100) == n


@pytest.mark.parametrize(
    ("settings", "n_steps", "n_tokens"),
    [
        ({"num_train_epochs": 2}, 6, 2 * 2000),  # 20 rows, 2 a batch, 4 batches a step: 3 steps an epoch
        ({"max_steps": 5}, 5, 5 / 3 * 2000),
        ({"max_steps": 9, "stop_after_fraction": 0.5}, 5, 5 / 3 * 2000),
        ({"packing": True, "max_length": 400, "num_train_epochs": 3}, 3, 6000),  # 5 packs, 3 batches, 1 step an epoch
    ],
)
def test_steps_are_those_of_the_trainer(settings, n_steps, n_tokens):
    plan = schedule_of(TrainConfig.model_validate(settings), rows(20, 100), 1)
    assert (plan.n_steps, plan.n_tokens) == (n_steps, pytest.approx(n_tokens))


def test_several_gpus_share_the_rows_of_an_epoch():
    assert schedule_of(TrainConfig(num_train_epochs=2), rows(80, 100), 4).n_steps == 2 * 3


def test_validations_and_checkpoints_are_counted():
    plan = schedule_of(TrainConfig(max_steps=100, eval_steps=40, save_steps=30), rows(20, 100), 1)
    assert (plan.n_validations, plan.n_checkpoints) == (4, 4)  # before the first step, at 40, 80 and 100


def test_a_large_split_is_drawn_from_the_sampled_rows():
    sampled = SplitLengths(100_000, (50, 150), (25, 75))
    plan = schedule_of(TrainConfig(packing=True, max_length=200, per_device_train_batch_size=1), sampled, 1)
    assert plan.n_tokens == pytest.approx(10_000_000)
    assert plan.n_steps == pytest.approx(100_000 * 100 / 200 / 4, rel=0.1)


def test_the_largest_batch_is_of_the_longest_rows_or_of_whole_packs():
    mixed = SplitLengths(4, (10, 10, 10, 100), (5, 5, 5, 50))
    padding_free = schedule_of(TrainConfig(per_device_train_batch_size=2), mixed, 1).largest
    assert (padding_free.n_tokens, padding_free.longest) == (110, 100)
    packed = schedule_of(TrainConfig(per_device_train_batch_size=2, packing=True, max_length=128), mixed, 1).largest
    assert packed.n_tokens == 256


def test_a_large_vocabulary_makes_validations_smaller(shape_of):
    assert validation_batch(shape_of(SMOLLM2), rows(50, 1000), 8).n_tokens == 5 * 1000
    assert validation_batch(shape_of(LLAMA_1B), rows(50, 1000), 8).n_tokens == 2 * 1000


def test_frozen_weights_take_twice_the_forward_pass_and_checkpointing_one_more(shape_of):
    shape = shape_of(LLAMA_1B)
    plan = schedule_of(TrainConfig(max_steps=1), rows(8, 100), 1)
    forward = forward_work(shape, plan.n_tokens, plan.squares, plan.n_supervised, 2).flops
    plain = training_work(shape, TrainConfig(max_steps=1), plan, 2)
    again = training_work(shape, TrainConfig(max_steps=1, gradient_checkpointing=True), plan, 2)
    assert plain.flops == pytest.approx(2 * forward, rel=0.03)
    assert again.flops - plain.flops == pytest.approx(forward)
    assert again.traffic > plain.traffic
