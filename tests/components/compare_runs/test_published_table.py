"""The published table: its improvements, rankings, effects and warnings."""

from __future__ import annotations

import pytest

from components.compare_runs.compare import ComparedSet, Comparison, compare
from components.compare_runs.config import CompareConfig
from components.compare_runs.table_file import read_table
from tests.conftest import ROOT

PUBLISHED = ROOT / "tests" / "data" / "published-runs.csv"


@pytest.fixture(scope="module")
def published() -> Comparison:
    return compare(read_table(PUBLISHED), CompareConfig())


def set_with(comparison: Comparison, run: str) -> ComparedSet:
    return next(one for one in comparison.sets if run in one.runs)


def test_published_improvements_over_the_first_run(published):
    improvements = list(set_with(published, "exp1_baseline_60steps").improvements.values())
    expected = [17.3, 20.0, 23.0, 17.7, 21.7, 18.8, 21.1, 24.3]
    assert [100 * value for value in improvements] == pytest.approx(expected, abs=0.06)


def test_published_grid_is_ranked_by_its_last_validation_loss(published):
    grid = set_with(published, "lr_3e-4_r32")
    ranked = [(one.name, one.loss) for one in grid.ranking if one.name != "baseline_3b"]
    assert ranked == [
        ("lr_3e-4_r32", 0.821687),
        ("grid-1b/lr_3e-4", 0.829798),
        ("grid-1b/baseline", 0.8358),
        ("lr_1e-4", 0.848186),
    ]


def test_published_losses_of_the_second_data_set_are_not_ranked_with_the_first(published):
    first, second = set_with(published, "grid-1b/lr_3e-4"), set_with(published, "grid-1b-second-evaluation/lr_3e-4")
    assert not set(first.runs) & set(second.runs)
    assert {one.name for one in second.ranking} == {
        "grid-1b-second-evaluation/lr_3e-4", "grid-1b-second-evaluation/baseline",
    }  # fmt: skip
    assert second.loss_kind == "test"
    assert any("measured in 3 ways" in warning for warning in published.warnings)


def test_published_effects_hold_every_other_setting(published):
    effects = {(e.setting, e.before, e.after): e for e in set_with(published, "exp1_baseline_60steps").effects}
    assert effects["learning_rate", 0.0001, 0.0005].pairs == [("exp5_lr_1e4", "exp6_lr_5e4")]
    assert effects["max_steps", 500, 1000].mean == pytest.approx(0.9068 / 0.9414 - 1)
    assert effects["lora_rank", 8, 32].mean == pytest.approx(0.9286 / 0.9561 - 1)
    # exp9 changed three settings at once: no effect of one of them can be read off it.
    assert not any("exp9_optimal_combination" in pair for effect in effects.values() for pair in effect.pairs)


def test_published_settings_that_the_table_does_not_have_have_no_effect(published):
    pairs = [pair for effect in set_with(published, "lr_1e-4").effects for pair in effect.pairs]
    assert pairs == [("lr_1e-4", "grid-1b/lr_3e-4")]


def test_published_training_losses_crown_no_winner(published):
    one = set_with(published, "exp1_baseline_60steps")
    assert "whether its lead over" in one.verdict
    assert "is not known: repeat with other values of train.seed" in one.verdict
    assert any("only training losses are known" in warning for warning in published.warnings)
