"""The effect of a setting is read from pairs of runs that differ in it alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.compare_runs.effects import effects
from tests.properties import quick


def test_a_pair_that_differs_in_one_setting_gives_its_relative_change():
    (effect,) = effects([("a", {"rank": 32, "lr": 1}, 0.9), ("b", {"rank": 8, "lr": 1}, 1.0)])
    assert (effect.setting, effect.before, effect.after) == ("rank", 8, 32)
    assert effect.pairs == [("b", "a")]
    assert effect.mean == pytest.approx(-0.1)


def test_pairs_of_the_same_change_are_one_effect_with_their_mean():
    runs = [
        (f"{lr} {rank}", {"lr": lr, "rank": rank}, loss)
        for (lr, rank), loss in {(1, 8): 1.0, (1, 16): 0.9, (2, 8): 2.0, (2, 16): 2.2}.items()
    ]
    by_setting = {effect.setting: effect for effect in effects(runs)}
    assert by_setting["rank"].changes == pytest.approx([-0.1, 0.1])
    assert by_setting["rank"].mean == pytest.approx(0)
    assert len(by_setting["lr"].pairs) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [({"a": 1, "b": 1}, {"a": 2, "b": 2}), ({"a": 1}, {"a": 1}), ({"a": 1}, {"a": 2, "b": 1}), ({"a": 1}, {"b": 1})],
)
def test_runs_that_differ_in_several_or_no_settings_give_no_effect(first, second):
    assert effects([("x", first, 1.0), ("y", second, 2.0)]) == []


def test_effects_are_by_setting_and_by_size_of_their_numbers():
    runs = [(f"{value}", {"rank": value}, 1.0) for value in (16, 8, 128)]
    assert [(effect.before, effect.after) for effect in effects(runs)] == [(8, 16), (8, 128), (16, 128)]
    texts = [(text, {"data": text}, 1.0) for text in ("b", "a")]
    assert [(effect.before, effect.after) for effect in effects(texts)] == [("a", "b")]


def test_numbers_come_before_texts():
    (effect,) = effects([("x", {"lr": "auto"}, 1.0), ("y", {"lr": 1e-3}, 1.0)])
    assert (effect.before, effect.after) == (1e-3, "auto")


def test_a_loss_of_zero_gives_no_change():
    (effect,) = effects([("x", {"a": 1}, 0.0), ("y", {"a": 2}, 1.0)])
    assert effect.changes == [0.0]


@quick
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0.5, 2)), max_size=6))
def test_every_pair_of_an_effect_has_one_change_and_one_difference(drawn):
    settings = {f"run{i}": {"a": a, "b": b} for i, (a, b, _) in enumerate(drawn)}
    found = effects([(name, settings[name], loss) for name, (_, _, loss) in zip(settings, drawn, strict=True)])
    for effect in found:
        assert len(effect.pairs) == len(effect.changes)
        for before, after in effect.pairs:
            assert settings[before][effect.setting] == effect.before
            assert settings[after][effect.setting] == effect.after
            other = ({"a", "b"} - {effect.setting}).pop()
            assert settings[before][other] == settings[after][other]
