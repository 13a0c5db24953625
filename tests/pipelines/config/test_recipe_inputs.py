"""The inputs of a recipe by their keys, and documents with other values at dotted keys."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from components.evaluate.config import EvaluateConfig
from components.split_data.config import SplitConfig
from pipelines.config.recipe_inputs import inputs_of, with_overrides


def split(**settings) -> SplitConfig:
    return SplitConfig.model_validate({"data": "rows.jsonl", "validation_rows": 2, **settings})


def test_every_input_has_the_key_of_its_revision():
    sources = [{"data": "a.jsonl", "data_revision": "1"}, {"data": "b.jsonl"}]
    config = SplitConfig.model_validate(
        {"sources": sources, "validation_rows": 2, "decontamination": {"files": ["x.txt", "y.txt"], "revisions": ["9"]}}
    )
    found = [
        (one.key, one.address, one.revision_key, one.revision)
        for one in inputs_of(config, EvaluateConfig(prompts="p.yaml"))
    ]
    assert found == [
        ("split.sources.0.data", "a.jsonl", "split.sources.0.data_revision", "1"),
        ("split.sources.1.data", "b.jsonl", "split.sources.1.data_revision", None),
        ("split.decontamination.files.0", "x.txt", "split.decontamination.revisions.0", "9"),
        ("split.decontamination.files.1", "y.txt", "split.decontamination.revisions.1", None),
        ("evaluate.prompts", "p.yaml", "evaluate.prompts_revision", None),
    ]


def test_only_chat_data_is_data():
    config = split(decontamination={"files": ["x.txt"]})
    assert [one.is_data for one in inputs_of(config, EvaluateConfig(prompts="p.yaml"))] == [True, False, False]


def test_overrides_reach_into_sections_and_lists_and_grow_a_list_by_one():
    config = split(decontamination={"files": ["x.txt", "y.txt"]})
    changed = with_overrides(
        config, {"data": "other.jsonl", "decontamination.files.1": "z.txt", "decontamination.revisions.0": "1"}
    )
    assert (changed.data, changed.decontamination.files, changed.decontamination.revisions) == (
        "other.jsonl", ["x.txt", "z.txt"], ["1"],
    )  # fmt: skip
    assert config.data == "rows.jsonl"


def test_an_override_is_validated_and_an_unknown_key_is_none():
    with pytest.raises(ValidationError, match="validation_rows"):
        with_overrides(split(), {"validation_rows": "many"})
    with pytest.raises(KeyError, match="nowhere"):
        with_overrides(split(), {"nowhere.data": 1})
