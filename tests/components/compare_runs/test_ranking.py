"""Ranking: seeds together, stopped trials last, and no winner within the noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.compare_runs.ranking import Ranked, group_seeds, join_names, mean_loss, rank, verdict_of
from components.compare_runs.runs import ComparedRun
from tests.components.compare_runs.runs import a_run, only_set
from tests.properties import quick


def ranked(*runs: ComparedRun) -> list[Ranked]:
    losses = {run.name: run.loss for run in runs}
    return rank(group_seeds(runs, losses), losses)


def names(groups: list[list[ComparedRun]]) -> list[list[str]]:
    return [[run.name for run in group] for group in groups]


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({"seed": 1}, True),
        ({"seed": 0}, False),
        ({"seed": None}, False),
        ({"seed": 1, "settings": {"lora_rank": 16}}, False),
        ({"seed": 1, "identity": "other rows"}, False),
        ({"seed": 1, "stopped_early": True}, False),
    ],
)
def test_runs_that_differ_in_their_seed_alone_are_one_group(changes, together):
    runs = [a_run("a", 1.0, seed=0), a_run("b", 2.0, **changes)]
    groups = names(group_seeds(runs, {run.name: run.loss for run in runs}))
    assert groups == ([["a", "b"]] if together else [["a"], ["b"]])


def test_a_run_without_a_loss_is_in_no_group():
    runs = [a_run("a"), a_run("b", 1.0)]
    assert names(group_seeds(runs, {"a": None, "b": 1.0})) == [["b"]]
    assert mean_loss(runs, {"a": None, "b": 1.0}) == 1.0


def test_repeated_seeds_are_ranked_by_their_mean_with_their_noise():
    same = [a_run(f"a{seed}", loss, seed=seed) for seed, loss in enumerate((0.84, 0.80, 0.82))]
    near = a_run("near", 0.83, seed=0, settings={"lora_rank": 16})
    far = a_run("far", 0.99, seed=0, settings={"lora_rank": 32})
    first, second, third = ranked(far, near, *same)
    assert (first.name, first.loss, first.runs) == ("a0 (3 seeds)", pytest.approx(0.82), ["a1", "a2", "a0"])
    assert (first.noise, first.tied) == (None, False)
    assert second.noise == pytest.approx(4.303 * 0.02 * (1 / 3 + 1) ** 0.5)  # Student's t, two degrees of freedom
    assert (second.tied, third.tied) == (True, False)
    assert second.noise_source == "repeated seeds"


def test_a_trial_that_was_stopped_is_behind_those_that_were_continued():
    early = a_run("early", 0.5, stopped_early=True)
    last = ranked(early, a_run("late", 0.9, 0.8))[1]
    assert (last.name, last.rank, last.tied) == ("early", 2, False)
    assert last.behind == pytest.approx(-0.3)


def test_without_noise_a_run_is_tied():
    second = ranked(a_run("a", 1.0), a_run("b", 2.0))[1]
    assert (second.noise, second.tied) == (None, True)


@pytest.mark.parametrize(
    ("runs", "facts"),
    [
        ([], ["No run has a loss"]),
        ([a_run("a", 0.8)], ["a is the only run", "0.8000"]),
        ([a_run("a", 1.0), a_run("b", 2.0)], ["a has the lowest loss, 1.0000", "over b", "not known", "train.seed"]),
        (
            [a_run("a", 1.0, 0.9, 0.8, 0.7), a_run("b", 1.2, 1.1, 1.0, 0.9)],
            ["a is best with 0.7000", "b is 0.2000 behind", "(the scatter of the last evaluations)"],
        ),
        (
            [a_run("a", 1.0, 0.90, 0.94, 0.89), a_run("b", 1.0, 0.94, 0.90, 0.91)],
            ["No winner", "a has the lowest loss, 0.8900", "over b is within the noise", "the scatter of the last"],
        ),
        ([a_run("a", 1.0), a_run("b", 0.5, stopped_early=True)], ["a is the only run with a loss here: 1.0000."]),
    ],
)
def test_the_verdict_has_the_best_run_and_what_its_lead_is_worth(runs, facts):
    verdict = verdict_of(ranked(*runs))
    for fact in facts:
        assert fact in verdict


def test_the_best_of_several_seeds_is_the_one_with_the_lowest_loss():
    assert only_set(a_run("a", 0.9, seed=0), a_run("b", 0.7, seed=1)).best == "b"


@pytest.mark.parametrize(
    ("given_names", "text"), [([], ""), ("ab", "a, b"), ("abc", "a, b, c"), ("abcde", "a, b, c and 2 more")]
)
def test_many_names_are_counted(given_names, text):
    assert join_names(given_names) == text


runs = st.lists(
    st.tuples(st.floats(0.1, 3), st.integers(0, 1), st.integers(0, 2), st.booleans()), min_size=1, max_size=8
)


@quick
@given(runs)
def test_every_run_with_a_loss_is_ranked_once_and_losses_ascend(drawn):
    own = [
        a_run(f"r{i}", loss, seed=seed, settings={"lora_rank": size}, stopped_early=stopped)
        for i, (loss, size, seed, stopped) in enumerate(drawn)
    ]
    ranking = ranked(*own)
    assert sorted(name for one in ranking for name in one.runs) == sorted(run.name for run in own)
    assert [one.rank for one in ranking] == list(range(1, len(ranking) + 1))
    keys = [(one.stopped_early, one.loss) for one in ranking]
    assert keys == sorted(keys)
    assert verdict_of(ranking)
