"""The recipe's ``split`` section: what contradicts itself is refused, and defaults are written out."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.split_data.config import QualityConfig, Source, SplitConfig


def config(**settings: Any) -> SplitConfig:
    return SplitConfig.model_validate({"data": "a.jsonl", "validation_rows": 2, **settings})


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"data": None}, "data is missing: a path, an address or a hub id"),
        ({"sources": [{"data": "b.jsonl"}]}, "data and sources are both given; give one"),
        ({"validation_rows": None}, "validation_rows (a count) or validation_fraction (such as 0.1) is missing"),
        ({"validation_fraction": 0.1}, "validation_rows and validation_fraction are both given"),
        ({"test_rows": 1, "test_fraction": 0.1}, "give either test_rows or test_fraction"),
        ({"train_rows": 1, "train_fraction": 0.1}, "give either train_rows or train_fraction"),
        ({"train_fraction": 0.9, "test_fraction": 0.2}, "add up to 1.1, which is more than 1"),
        ({"data": None, "sources": [{"data": "a", "weight": 1}, {"data": "b"}]}, "give every source a weight, or none"),
        ({"data": None, "sources": [{"data": "a"}], "limit": 3}, "limit beside sources does nothing"),
        ({"data": None, "sources": [{"data": "a"}], "format": "alpaca"}, "format beside sources does nothing"),
        ({"quality": {"min_turns": 3, "max_turns": 2}}, "min_turns 3 is above max_turns 2: no row"),
        ({"quality": {"min_tokens": 3, "max_tokens": 2}}, "min_tokens 3 is above max_tokens 2"),
        ({"quality": {"min_perplexity": 3, "max_perplexity": 2}}, "min_perplexity 3.0 is above max_perplexity 2.0"),
        ({"format": "markdown"}, "'messages', 'sharegpt', 'alpaca' or 'prompt_completion'"),
        ({"leaks": {"files": []}}, "leaks\n  Extra inputs are not permitted"),
        ({"validation_rows": 0}, "greater than 0"),
        ({"train_fraction": float("nan")}, "finite number"),
    ],
)
def test_settings_that_contradict_each_other_or_are_unknown_are_refused(settings, fact):
    with pytest.raises(ValidationError) as caught:
        config(**settings)
    assert fact in str(caught.value)


def test_data_is_one_source_with_its_settings():
    (source,) = config(data_split="valid", data_revision="abc", format="alpaca", limit=3).all_sources
    assert source == Source(data="a.jsonl", data_split="valid", data_revision="abc", format="alpaca", limit=3)


def test_sources_are_given_as_they_are():
    sources = [{"data": "a", "weight": 1.0}, {"data": "b", "weight": 2.0}]
    assert [one.weight for one in config(data=None, sources=sources).all_sources] == [1.0, 2.0]


def test_defaults_beside_sources_are_no_contradiction():
    """A resolved recipe has every default written out."""
    resolved = config(data=None, sources=[{"data": "a"}]).model_dump()
    assert SplitConfig.model_validate(resolved).model_dump() == resolved


@pytest.mark.parametrize(
    ("quality", "tokens", "perplexity"),
    [({}, False, False), ({"max_tokens": 5}, True, False), ({"min_perplexity": 2.0}, False, True)],
)
def test_bounds_show_what_they_need(quality, tokens, perplexity):
    bounds = QualityConfig(**quality)
    assert (bounds.counts_tokens, bounds.measures_perplexity) == (tokens, perplexity)
