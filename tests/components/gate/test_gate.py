"""The gate: which figure is outside which bound, and by how much."""

from __future__ import annotations

import math

import pytest

from components.errors import GateError
from components.gate.config import GateConfig
from components.gate.gate import FIGURES, require_within

MEASURED = {
    "tuned_validation_loss": 0.9,
    "perplexity_increase": 0.031,
    "kl_divergence": 0.02,
    "same_top_token": 0.93,
    "quantized_seconds_per_answer": 28.8,
}
WITHIN = {
    "max_validation_loss": 0.9,
    "max_perplexity_increase": 0.05,
    "max_kl_divergence": 0.05,
    "min_same_top_token": 0.9,
    "max_seconds_per_answer": 30.0,
}


def test_figures_at_and_within_their_bounds_pass():
    assert require_within(GateConfig(**WITHIN), MEASURED) == MEASURED


def test_no_bound_asks_for_nothing():
    assert require_within(GateConfig(), {}) == {}


def test_every_bound_of_the_recipe_is_on_a_figure():
    assert set(FIGURES) == set(GateConfig.model_fields)


@pytest.mark.parametrize(
    ("bound", "fact"),
    [
        ({"max_validation_loss": 0.8}, "tuned_validation_loss is 0.9, 0.1 above gate.max_validation_loss = 0.8"),
        ({"max_perplexity_increase": 0.01}, "perplexity_increase is 0.031, 0.021 above gate.max_perplexity_increase"),
        ({"max_kl_divergence": 0.0}, "kl_divergence is 0.02, 0.02 above gate.max_kl_divergence = 0"),
        ({"min_same_top_token": 0.95}, "same_top_token is 0.93, 0.02 below gate.min_same_top_token = 0.95"),
        (
            {"max_seconds_per_answer": 10},
            "quantized_seconds_per_answer is 28.8, 18.8 above gate.max_seconds_per_answer",
        ),
    ],
)
def test_each_bound_refuses_with_figure_and_difference(bound, fact):
    with pytest.raises(GateError) as caught:
        require_within(GateConfig(**{**WITHIN, **bound}), MEASURED)
    assert str(caught.value).startswith("not published: ")
    assert fact in str(caught.value)
    assert ";" not in str(caught.value)


def test_all_refusals_are_in_one_message():
    with pytest.raises(GateError, match=r"max_kl_divergence = 0\.01; same_top_token"):
        require_within(GateConfig(max_kl_divergence=0.01, min_same_top_token=0.99), MEASURED)


def test_a_figure_that_is_not_a_number_is_within_no_bound():
    with pytest.raises(GateError, match="kl_divergence is nan"):
        require_within(GateConfig(max_kl_divergence=1.0), {"kl_divergence": math.nan})


def test_a_bound_on_what_was_not_measured_refuses_and_says_how_to_measure_it():
    with pytest.raises(GateError, match=r"quantized_seconds_per_answer was not measured; name a prompts file in eval"):
        require_within(GateConfig(max_seconds_per_answer=30), {})
