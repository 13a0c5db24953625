"""Corrections by earlier runs."""

from __future__ import annotations

import pytest

from pipelines.estimate.calibration import Calibration, Measured

SMALL, LARGE = 135_000_000, 1_235_000_000


def test_without_earlier_runs_the_spread_is_that_of_the_published_figures():
    found = Calibration().of_seconds("train_lora", SMALL, 0.6)
    assert (found.n_runs, found.factor.value, found.factor.high) == (0, 1.0, 1.6)


def test_earlier_runs_of_the_same_size_correct_and_narrow_it():
    earlier = tuple(Measured("train_lora", SMALL, ratio) for ratio in (1.9, 2.0, 2.1))
    found = Calibration(seconds=earlier).of_seconds("train_lora", SMALL, 0.6)
    assert found.n_runs == 3
    assert found.factor.value == pytest.approx(2.0, rel=0.01)
    assert found.factor.high / found.factor.value == pytest.approx(1.16, abs=0.01)


def test_a_run_of_a_similar_size_counts_more():
    earlier = (Measured("train_lora", SMALL, 1.0), Measured("train_lora", LARGE, 3.0))
    assert Calibration(seconds=earlier).of_seconds("train_lora", LARGE, 0.6).factor.value > 2.8
    assert Calibration(seconds=earlier).of_seconds("train_lora", SMALL, 0.6).factor.value < 1.1


def test_a_run_of_another_size_leaves_more_uncertainty():
    earlier = (Measured("train_lora", SMALL, 1.0),)
    near = Calibration(seconds=earlier).of_seconds("train_lora", SMALL, 0.6).factor
    far = Calibration(seconds=earlier).of_seconds("train_lora", LARGE, 0.6).factor
    assert near.high < far.high <= 1.6


def test_runs_that_are_far_apart_are_said_to_be():
    earlier = tuple(Measured("train_lora", SMALL, ratio) for ratio in (1.0, 2.0))
    assert Calibration(seconds=earlier).of_seconds("train_lora", SMALL, 0.6).factor.high > 1.9


def test_a_step_that_no_run_measured_goes_by_the_trainings():
    earlier = (Measured("train_lora", SMALL, 2.0), Measured("export_gguf", SMALL, 9.0))
    found = Calibration(seconds=earlier).of_seconds("evaluate", SMALL, 1.0)
    assert (found.factor.value, found.n_runs) == (pytest.approx(2.0), 1)
    assert found.factor.high == pytest.approx(3.0)


def test_memory_goes_by_the_same_step_alone():
    calibration = Calibration(memory=(Measured("train_lora", SMALL, 1.2),))
    assert calibration.of_memory("train_lora", SMALL, 0.2).factor.value == pytest.approx(1.2)
    assert calibration.of_memory("evaluate", SMALL, 0.2).factor.value == 1.0
