"""Compare the figures of a run with the recipe's bounds."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from components.errors import GateError
from components.gate.config import GateConfig

log = logging.getLogger(__name__)

# The figure that each bound is on, by the name under which a step logs it.
FIGURES = {
    "max_validation_loss": "tuned_validation_loss",
    "max_perplexity_increase": "perplexity_increase",
    "max_kl_divergence": "kl_divergence",
    "min_same_top_token": "same_top_token",
    "max_seconds_per_answer": "quantized_seconds_per_answer",
}


def require_within(config: GateConfig, figures: Mapping[str, float]) -> dict[str, float]:
    """The figures that the bounds are on, if each is within its bound.

    Raises:
        GateError: one is not, or was not measured; the message names each, and by how much.
    """
    bounds = {name: bound for name, bound in config.model_dump().items() if bound is not None}
    refusals = [
        refusal for name, bound in bounds.items() if (refusal := _refusal(name, bound, figures.get(FIGURES[name])))
    ]
    if refusals:
        raise GateError(f"not published: {'; '.join(refusals)}")
    log.info("%d of %d bounds are set, and the model is within all of them", len(bounds), len(FIGURES))
    return {FIGURES[name]: figures[FIGURES[name]] for name in bounds}


def _refusal(name: str, bound: float, value: float | None) -> str | None:
    if value is None:
        return f"gate.{name} is {bound:g}, but {FIGURES[name]} was not measured; {_how_to_measure(name)}"
    # NaN compares as false, so it is within no bound.
    within = value >= bound if name.startswith("min_") else value <= bound
    if within:
        return None
    direction = "below" if name.startswith("min_") else "above"
    return f"{FIGURES[name]} is {value:.4g}, {abs(value - bound):.4g} {direction} gate.{name} = {bound:g}"


def _how_to_measure(name: str) -> str:
    if name == "max_seconds_per_answer":
        return "name a prompts file in evaluate.prompts"
    return "leave the bound out, or run the steps that measure it"
