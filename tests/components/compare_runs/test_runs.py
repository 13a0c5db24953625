"""Which loss a run has: of the weights that it keeps, within minutes, or at a share of its steps."""

from __future__ import annotations

import math

import pytest

from tests.components.compare_runs.runs import a_run


def test_the_loss_is_that_of_the_last_evaluation():
    assert a_run("a", 0.9, 0.5, 0.7).loss == 0.7


def test_the_loss_of_kept_weights_is_that_of_their_step():
    assert a_run("a", 0.9, 0.5, 0.7, loss_step=20).loss == 0.5
    assert a_run("a", 0.9, loss_step=25).loss is None


@pytest.mark.parametrize("status", ["diverged", "out_of_memory"])
def test_a_run_that_failed_has_no_loss(status):
    run = a_run("a", 0.9, status=status, max_steps=10)
    assert run.loss is None
    assert run.loss_at_share(1.0) is None


def test_evaluations_that_are_no_number_are_left_out():
    run = a_run("a", 0.9, math.nan, math.inf)
    assert [point.step for point in run.measured] == [10]
    assert run.loss == 0.9


def test_a_run_without_evaluations_has_no_loss():
    assert a_run("a").loss is None
    assert a_run("a", max_steps=10).loss_at_share(1.0) is None


@pytest.mark.parametrize(("minutes", "loss"), [(0.5, None), (1.0, 0.9), (2.5, 0.5), (99, 0.7)])
def test_within_minutes_the_loss_is_the_last_until_then(minutes, loss):
    assert a_run("a", 0.9, 0.5, 0.7, loss_step=30).within(minutes).loss == loss


@pytest.mark.parametrize(
    ("takes_best", "fraction", "loss"), [(False, 1, 0.7), (False, 2 / 3, 0.5), (True, 1, 0.5), (True, 1 / 3, 0.9)]
)
def test_at_a_share_of_the_steps_the_loss_is_of_the_weights_kept_until_then(takes_best, fraction, loss):
    run = a_run("a", 0.9, 0.5, 0.7, max_steps=30, takes_best=takes_best)
    assert run.loss_at_share(fraction) == loss


def test_before_the_first_evaluation_or_without_a_schedule_there_is_no_loss():
    assert a_run("a", 0.9, max_steps=100).loss_at_share(0.05) is None
    assert a_run("a", 0.9).loss_at_share(1) is None
