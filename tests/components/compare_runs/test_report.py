"""Page, Markdown, JSON and the best recipe of a comparison."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from components.compare_runs.compare import Comparison, compare
from components.compare_runs.config import CompareConfig
from components.compare_runs.report import CHART, DATA, PAGE, RECIPE, TABLE, best_recipe, write_reports
from tests.components.compare_runs.runs import a_run, an_answer, compared, timed


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    answers = [an_answer(model, text="<b>bold</b>") for model in ("base", "tuned", "f16", "quantized")]
    first = a_run("one|two", 0.9, answers=answers)
    return compared(first, a_run("b", 0.8, answers=answers, settings={"lora_rank": 16}))


@pytest.fixture(scope="module")
def folder(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "new"
    assert set(write_reports(comparison, folder)) == {PAGE, TABLE, CHART, DATA}
    return folder


def test_the_page_has_table_ranking_effects_and_answers(folder):
    page = (folder / PAGE).read_text()
    for fact in ("one|two", "0.8000", "<td>16</td>", "Ranking", "effect of each setting", "lora_rank", "-11.11 %"):
        assert fact in page
    assert page.count("one|two, tuned") == 2  # a column, and a line of the averages
    assert page.count("base, untuned") == 2  # the base that both share, once each


def test_the_page_escapes_what_models_write_and_refers_to_nothing_elsewhere(folder):
    page = (folder / PAGE).read_text()
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert not re.search(r"(src|href)=\"http", page)
    assert 'src="data:image/png;base64,iVBOR' in page


def test_markdown_tables_have_as_many_cells_as_headings(folder):
    markdown = (folder / TABLE).read_text()
    assert r"| one\|two |" in markdown
    assert "| base, untuned | 1 | 2.00 | 4.0 |" in markdown
    assert f"({CHART})" in markdown
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(tables) == 4
    for one in tables:
        # A name may hold the character between cells.
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in one.splitlines()}
        assert len(widths) == 1


def test_the_json_is_the_comparison(folder, comparison):
    assert Comparison.model_validate_json((folder / DATA).read_bytes()) == comparison


def test_the_noise_is_shown_and_unknown_noise_is_named(tmp_path):
    steady = [a_run("a", 1.0, 0.9, 0.8), a_run("b", 1.2, 1.1, 1.0)]
    write_reports(compared(*steady), tmp_path)
    assert "the scatter of the last evaluations" in (tmp_path / PAGE).read_text()
    write_reports(compared(a_run("a", 1.0), a_run("b", 2.0)), tmp_path)
    assert "| 2 | b | 2.0000 | 1.0000 | unknown |" in (tmp_path / TABLE).read_text()
    tied = [a_run("a", 1.0, 0.90, 0.94, 0.89), a_run("b", 1.0, 0.94, 0.90, 0.91)]
    write_reports(compared(*tied), tmp_path)
    assert "within the noise" in (tmp_path / PAGE).read_text()
    assert "| 2 (tied) | b |" in (tmp_path / TABLE).read_text()


def test_choice_minutes_warnings_and_the_matrix_are_shown(tmp_path):
    matrix = {"a": {"a": 0.7, "b": 1.5}, "b": {"a": 0.9, "b": 0.8}}
    runs = [timed("a", 0.7, 1.0, hardware="x"), timed("b", 0.8, 1.0, hardware="y")]
    own = compare(runs, CompareConfig(max_seconds_per_answer=9, at_minutes=1), matrix)
    write_reports(own, tmp_path)
    for name in (PAGE, TABLE):
        text = (tmp_path / name).read_text()
        for fact in ("Choice: b", "within 1.0 minutes", "different hardware", "1.5000", "rows of b"):
            assert fact in text


def recipe(name: str, **others: Any) -> dict[str, Any]:
    return {"train": {"max_steps": 40.0, "learning_rate": 0.5, "seeds": [1.0]}, "name": name, **others}


def test_the_best_recipe_has_its_keys_in_order_and_whole_numbers(tmp_path):
    runs = [a_run("a", 0.9, recipe=recipe("a")), a_run("b", 0.8, recipe=recipe("b", zebra=1.5, base_model="x"))]
    made = write_reports(compared(*runs), tmp_path)
    text = made[RECIPE].read_text()
    assert re.findall(r"^(\w+):", text, flags=re.MULTILINE) == ["name", "base_model", "train", "zebra"]
    read = YAML(typ="safe").load(text)
    assert read["train"] == {"max_steps": 40, "learning_rate": 0.5, "seeds": [1]}
    assert "max_steps: 40\n" in text


def test_the_chosen_run_goes_before_the_lowest_loss():
    runs = [timed("slow", 0.5, 99.0, recipe=recipe("slow")), timed("fast", 0.9, 1.0, recipe=recipe("fast"))]
    assert best_recipe(compared(*runs))["name"] == "slow"
    assert best_recipe(compared(*runs, max_seconds_per_answer=9))["name"] == "fast"
    assert best_recipe(compared(*runs, max_seconds_per_answer=0.1))["name"] == "slow"


def test_without_a_loss_or_a_recipe_there_is_no_best_recipe():
    assert best_recipe(compared(a_run("a"))) is None
    assert best_recipe(compared(a_run("a", 1.0))) is None
