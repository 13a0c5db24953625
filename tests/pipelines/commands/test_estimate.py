"""``lorry estimate``, and its line in ``lorry check``, as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.commands.estimate import report_estimate
from pipelines.config.recipe import load_recipe
from tests.conftest import chat_rows, recipe_text, write_jsonl

runner = CliRunner()


@pytest.fixture
def recipe(tiny_base, tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tiny_base, write_jsonl(tmp_path / "rows.jsonl", chat_rows(40))))
    return path


def test_a_recipe_is_estimated_here_and_on_a_pool(recipe, tmp_path):
    here = runner.invoke(app, ["estimate", str(recipe), "--workdir", str(tmp_path)])
    assert here.exit_code == 0, here.output
    assert "tiny on this machine" in here.output
    assert "training: 6 steps of " in here.output
    there = runner.invoke(app, ["estimate", str(recipe), "--workdir", str(tmp_path), "--pool", "a100", "--json"])
    assert json.loads(there.stdout)["place"] == "pool a100"


def test_what_cannot_fit_ends_with_exit_status_1_and_what_would(recipe, tmp_path):
    recipe.write_text(recipe.read_text() + "placement: {pools: {t4: {gpu_memory: 100M}, a100: {gpu_memory: 100M}}}\n")
    done = runner.invoke(app, ["estimate", str(recipe), "--workdir", str(tmp_path), "--pool", "t4", "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert not found["fits"]
    assert found["what_would_fit"] == ["--pool cpu"]
    assert re.search(
        r"train_lora cannot fit: .* pool t4 has 100 MB; .*what would fit: --pool cpu$", str(done.exception)
    )


def test_a_sweep_is_estimated_too(recipe, tmp_path):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"name: two\nrecipe: {recipe}\ngrid: {{train.learning_rate: [1e-3, 1e-2]}}\n")
    done = runner.invoke(app, ["estimate", str(sweep), "--workdir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "trials: 2, 1 at a time" in done.output


def test_an_unknown_pool_is_named(recipe):
    done = runner.invoke(app, ["estimate", str(recipe), "--pool", "h100"])
    assert str(done.exception).startswith("--pool h100: none of small, cpu, t4, a100")


def lines_of(recipe: Path, tmp_path: Path) -> list[str]:
    lines: list[str] = []
    report_estimate(load_recipe(recipe), None, tmp_path, lines.append)
    return lines


def test_a_check_has_a_line_of_it(recipe, tmp_path, monkeypatch):
    # The base's own check takes a process with torch, and is tested elsewhere.
    monkeypatch.setattr("pipelines.preflight.split_check.require_usable_bases", lambda *_: None)
    (line,) = lines_of(recipe, tmp_path)
    assert re.match(
        r"estimate on this machine: [\d.]+ \([\d.]+ to [\d.]+\) minutes, memory [\d.]+ [MG]B \(.*\), by published", line
    )
    done = runner.invoke(app, ["check", str(recipe), "--workdir", str(tmp_path)])
    assert "estimate on this machine: " in done.output


@pytest.mark.parametrize(
    ("given", "away"),
    [
        ({"base_model": "owner/name"}, "owner/name"),
        ({"base_model": "lorry://tiny-base"}, "lorry://tiny-base"),
        ({"data": "owner/rows"}, "owner/rows"),
    ],
)
def test_nothing_is_fetched_for_the_line(tiny_base, tmp_path, given, away):
    data = write_jsonl(tmp_path / "rows.jsonl", chat_rows(40))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text(given.get("base_model", tiny_base), given.get("data", data)))
    assert lines_of(recipe, tmp_path) == [f"not estimated: {away} would be fetched for it; lorry estimate does so"]


def test_the_line_says_why_there_is_none(recipe, tmp_path, tiny_base):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    recipe.write_text(recipe.read_text().replace(str(tiny_base), str(base)))
    (line,) = lines_of(recipe, tmp_path)
    assert line.startswith(f"not estimated: {base}: has no safetensors weights")
