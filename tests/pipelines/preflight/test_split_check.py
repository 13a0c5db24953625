"""Splits that cannot be filled are found before a run."""

from __future__ import annotations

import pytest

from components.errors import RecipeError
from components.split_data.config import SplitConfig
from pipelines.config.recipe import load_recipe
from pipelines.preflight import split_check
from pipelines.preflight.split_check import check_recipes, check_split, check_splits
from tests.conftest import chat_rows, recipe_text, write_jsonl


@pytest.fixture
def data(tmp_path):
    return write_jsonl(tmp_path / "rows.jsonl", chat_rows(12))


def config(data, **settings) -> SplitConfig:
    return SplitConfig.model_validate({"data": str(data), "validation_rows": 2, **settings})


def test_a_split_that_can_be_filled_passes(data):
    assert check_split(config(data)) is True


def test_one_that_asks_for_too_much_is_refused_by_its_section(data):
    with pytest.raises(RecipeError, match=r"^split: .*rows\.jsonl: .*40"):
        check_split(config(data, validation_rows=40))


def test_data_elsewhere_and_data_that_is_large_are_left_to_the_run(data, monkeypatch):
    assert check_split(config("owner/name", validation_rows=40)) is False
    assert check_split(config("s3://bucket/rows.jsonl", validation_rows=40)) is False
    assert check_split(config(data, validation_rows=40, decontamination={"files": ["s3://bucket/test.txt"]})) is False
    monkeypatch.setattr(split_check, "MAX_BYTES", 10)
    assert check_split(config(data, validation_rows=40)) is False


def test_bounds_that_take_a_model_are_left_out(data):
    quality = {"max_tokens": 1}
    assert check_split(config(data, quality=quality)) is True


def test_each_split_of_several_recipes_is_checked_once(tmp_path, data, monkeypatch):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text("owner/base", data))
    recipe = load_recipe(path)
    other = recipe.model_copy(update={"split": recipe.split.model_copy(update={"test_rows": 1})})
    checked: list[int] = []
    monkeypatch.setattr(split_check, "check_split", lambda split, base=None: checked.append(split.test_rows))
    check_splits([recipe, other, recipe])
    assert checked == [2, 1]
    checked.clear()
    check_recipes([recipe, other, recipe], print)
    assert checked == [2, 1]
