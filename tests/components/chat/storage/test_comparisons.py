"""Comparisons, their votes, and the standings of models."""

from __future__ import annotations

import pytest

from components.chat.storage.comparisons import NONE_IS_GOOD, TIE, Comparisons, Standing
from components.chat.storage.completion import Completion
from components.errors import DataError

SLOW, FAST = Completion("a", 3, 0.2, 1.2, "stop"), Completion("b", 3, 0.1, 0.6, "stop")
ANSWERS = {"A": ("base", SLOW), "B": ("tuned", FAST)}


@pytest.fixture
def comparisons(database) -> Comparisons:
    return Comparisons(database)


def vote(comparisons: Comparisons, name: str, choice: str, answers=ANSWERS, *, blind: bool = True) -> None:
    comparisons.save("ann", name, "q", "", answers, blind=blind)
    comparisons.vote("ann", name, choice)


def test_votes_add_up_by_model(comparisons):
    for number, choice in enumerate(("B", TIE, NONE_IS_GOOD)):
        vote(comparisons, str(number), choice)
    standings = comparisons.standings()
    assert list(standings) == ["tuned", "base"], "the best is first"
    tuned, base = standings.values()
    assert (tuned.wins, tuned.losses, tuned.ties, tuned.share) == (1, 1, 1, 0.5)
    assert (base.wins, base.losses, base.ties) == (0, 2, 1)
    assert tuned.median_of("tokens_per_second") == pytest.approx(4.0)


def test_a_vote_returns_what_each_letter_was_and_counts_once(comparisons):
    comparisons.save("ann", "one", "q", "", ANSWERS, blind=True)
    assert comparisons.vote("ann", "one", "A") == ANSWERS
    with pytest.raises(DataError, match="you have voted already; compare again"):
        comparisons.vote("ann", "one", "B")
    assert comparisons.standings()["base"].wins == 1


@pytest.mark.parametrize(("user", "name", "choice"), [("bob", "one", "A"), ("ann", "one", "C"), ("ann", "no", TIE)])
def test_a_vote_of_another_user_or_for_nothing_is_refused(comparisons, user, name, choice):
    comparisons.save("ann", "one", "q", "", ANSWERS, blind=True)
    with pytest.raises(DataError, match="this comparison is not there any more"):
        comparisons.vote(user, name, choice)
    assert comparisons.standings() == {}


def test_a_blind_comparison_counts_only_after_its_vote_and_an_open_one_at_once(comparisons):
    comparisons.save("ann", "blind", "q", "", ANSWERS, blind=True)
    assert comparisons.standings() == {}, "figures would show which model is which"
    comparisons.save("ann", "open", "q", "", ANSWERS, blind=False)
    standings = comparisons.standings()
    assert {model: one.seconds for model, one in standings.items()} == {"base": [1.2], "tuned": [0.6]}
    assert {one.share for one in standings.values()} == {None}


def test_an_answer_that_did_not_finish_has_votes_but_no_figures(comparisons):
    cut = {"A": ("base", Completion()), "B": ("tuned", Completion("half", 1, 0.1, 9.0, "broken"))}
    vote(comparisons, "cut", "B", cut, blind=False)
    standings = comparisons.standings()
    assert (standings["tuned"].wins, standings["base"].losses) == (1, 1)
    assert standings["tuned"].seconds == standings["base"].first_token_seconds == []


def test_models_without_votes_come_last(comparisons):
    comparisons.save("ann", "open", "q", "", {"A": ("new", FAST)}, blind=False)
    vote(comparisons, "voted", NONE_IS_GOOD)
    assert list(comparisons.standings())[-1] == "new"


def test_a_standing_without_votes_or_answers_has_no_share_and_no_medians():
    assert Standing().share is None
    assert Standing().median_of("seconds") is None
    assert Standing(seconds=[3.0, 1.0, 2.0]).median_of("seconds") == 2.0
    assert Standing(wins=1, losses=1, ties=2).share == 0.5
