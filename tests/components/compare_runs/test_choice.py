"""The choice of a model within a limit of seconds, and its reason."""

from __future__ import annotations

import pytest

from components.compare_runs.choice import Choice, choose
from tests.components.compare_runs.runs import a_run, timed

RUNS = [timed("1b", 0.82, 28.8), timed("3b", 0.70, 84.2)]
LOSSES = {"1b": 0.82, "3b": 0.70}


def choice(limit: float, losses: dict[str, float] | None = LOSSES) -> Choice:
    made = choose(RUNS, losses, limit=limit)
    assert made is not None
    return made


def test_without_a_limit_there_is_no_choice():
    assert choose(RUNS, LOSSES, limit=None) is None


def test_the_only_model_in_time_is_chosen_whether_or_not_losses_compare():
    for losses in (LOSSES, None):
        made = choice(30, losses)
        assert made.name == "1b"
        assert "Only 1b answers within 30 s, in 28.8 s" in made.reason
        assert "Too slow: 3b (84.2 s)" in made.reason


def test_the_lowest_loss_in_time_is_chosen():
    made = choice(100)
    assert made.name == "3b"
    assert "3b has the lowest loss (0.7000) of the 2 models that answer within 100 s; it takes 84.2 s" in made.reason
    assert "Too slow" not in made.reason


def test_a_model_at_the_limit_is_in_time():
    assert choice(28.8).name == "1b"


@pytest.mark.parametrize(
    ("limit", "losses", "facts"),
    [
        (1, LOSSES, ["No model answers within 1 s", "1b (28.8 s), 3b (84.2 s)"]),
        (100, None, ["1b, 3b answer within 100 s", "do not compare", "--each-on-each"]),
        (100, {}, ["No model that answers within 100 s has a loss"]),
    ],
)
def test_no_model_is_chosen_where_none_is_in_time_or_losses_do_not_compare(limit, losses, facts):
    made = choice(limit, losses)
    assert made.name is None
    for fact in facts:
        assert fact in made.reason


def test_untimed_runs_say_how_to_time_them():
    made = choose([a_run("a", 1.0)], {"a": 1.0}, limit=9)
    assert made.name is None
    assert "evaluate.prompts" in made.reason
