"""The noise of a difference: by seeds, or by the last evaluations."""

from __future__ import annotations

import math

import pytest

from components.compare_runs.noise import (
    T_QUANTILES,
    SeedDeviation,
    noise_of_evaluations,
    noise_of_seeds,
    seed_deviation,
)
from components.compare_runs.runs import Point
from tests.components.compare_runs.runs import a_run


def test_the_deviation_over_seeds_is_pooled_over_settings():
    assert seed_deviation([[1.0, 3.0], [5.0, 5.0], [7.0]]) == SeedDeviation(1.0, 2)
    assert seed_deviation([[1.0, 2.0, 3.0]]) == SeedDeviation(1.0, 2)


def test_without_repeated_seeds_there_is_no_deviation():
    assert seed_deviation([[1.0], [2.0]]) is None
    assert seed_deviation([]) is None


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.71), (2, 4.303), (10, T_QUANTILES[-1]), (50, T_QUANTILES[-1])]
)
def test_the_noise_of_seeds_is_students_t_times_the_standard_error(freedom, quantile):
    noise = noise_of_seeds(SeedDeviation(0.1, freedom), 1, 4)
    assert noise.nats == pytest.approx(quantile * 0.1 * math.sqrt(1 + 1 / 4))
    assert noise.source == "repeated seeds"


def test_fewer_than_three_common_evaluations_give_no_noise():
    assert noise_of_evaluations(a_run("a", 1.0, 0.9), a_run("b", 1.0, 0.9)) is None
    other = a_run("b").model_copy(update={"curve": [Point(step=5 * i, loss=1.0) for i in (1, 3, 5, 7)]})
    assert noise_of_evaluations(a_run("a", 1.0, 0.9, 0.8), other) is None


def test_straight_parallel_curves_have_no_noise():
    noise = noise_of_evaluations(a_run("a", 1.0, 0.9, 0.8), a_run("b", 1.2, 1.1, 1.0))
    assert noise.nats == pytest.approx(0, abs=1e-9)


def test_the_scatter_around_the_line_is_noise_where_the_difference_is_steady():
    zigzag = (0.9, 0.7, 0.9)
    noise = noise_of_evaluations(a_run("a", *zigzag), a_run("b", *(loss + 0.1 for loss in zigzag)))
    # Residuals of the line through the mean of 0.8333: 0.0667, -0.1333, 0.0667; one degree of freedom.
    assert noise.nats == pytest.approx(2 * math.sqrt(0.0667**2 + 0.1333**2 + 0.0667**2), rel=1e-3)


def test_a_difference_that_changes_is_noise_where_the_curves_are_straight():
    noise = noise_of_evaluations(a_run("a", 1.0, 0.9, 0.8), a_run("b", 0.8, 0.8, 0.8))
    assert noise.nats == pytest.approx(2 * 0.1)


def test_only_the_last_three_evaluations_count():
    early = noise_of_evaluations(a_run("a", 9.0, 0.1, 1.0, 0.9, 0.8), a_run("b", 1.0, 7.0, 1.0, 0.9, 0.8))
    assert early.nats == pytest.approx(0, abs=1e-9)
