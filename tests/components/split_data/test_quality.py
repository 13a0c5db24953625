"""Bounds of turns, tokens and repetition."""

from __future__ import annotations

import pytest

from components.artifacts.contracts import Message, Row
from components.split_data.config import QualityConfig
from components.split_data.ngrams import hash_words
from components.split_data.quality import (
    MIN_NGRAMS_TO_REPEAT,
    repetition,
    repetition_problem,
    row_of_each_message,
    tokens_problem,
    turns_problem,
)


def row(n_answers: int) -> Row:
    messages = [Message(role=role, content="x") for _ in range(n_answers) for role in ("user", "assistant")]
    return Row(id="0" * 32, messages=messages)


@pytest.mark.parametrize(
    ("n_answers", "problem"),
    [
        (1, ("too few turns", "1 answers, fewer than min_turns 2")),
        (2, None),
        (3, None),
        (4, ("too many turns", "4 answers, more than max_turns 3")),
    ],
)
def test_turns_count_answers_and_the_bounds_are_allowed(n_answers, problem):
    assert turns_problem(row(n_answers), QualityConfig(min_turns=2, max_turns=3)) == problem


@pytest.mark.parametrize(
    ("n_tokens", "problem"),
    [
        (9, ("too short", "9 tokens, fewer than min_tokens 10")),
        (10, None),
        (20, None),
        (21, ("too long", "21 tokens, more than max_tokens 20")),
    ],
)
def test_the_bounds_of_tokens_are_allowed(n_tokens, problem):
    assert tokens_problem(n_tokens, QualityConfig(min_tokens=10, max_tokens=20)) == problem


def test_without_bounds_there_is_no_problem():
    assert turns_problem(row(0), QualityConfig()) is None
    assert tokens_problem(10**6, QualityConfig()) is None
    assert repetition_problem(1.0, QualityConfig(max_repetition=1)) is None


def test_repetition_is_the_share_of_ngrams_that_occur_earlier():
    n_words = MIN_NGRAMS_TO_REPEAT + 2
    distinct = " ".join(f"w{i}" for i in range(n_words))
    twice = f"{distinct} {distinct}"
    constant = "a " * n_words
    shares = repetition(hash_words([distinct, twice, constant])).tolist()
    assert shares[0] == 0
    # Of 62 n-grams 30 repeat earlier ones; the two across the middle are new.
    assert shares[1] == pytest.approx(30 / 62)
    assert shares[2] == pytest.approx(1 - 1 / MIN_NGRAMS_TO_REPEAT)


def test_a_short_text_may_repeat_itself():
    assert repetition(hash_words(["a " * (MIN_NGRAMS_TO_REPEAT + 1), ""])).tolist() == [0, 0]


def test_too_much_repetition_is_given_with_share_and_bound():
    assert repetition_problem(0.9, QualityConfig()) is None
    assert repetition_problem(0.95, QualityConfig()) == (
        "repeated text", "95 % of an answer repeats itself, more than max_repetition 0.9",
    )  # fmt: skip


def test_every_message_has_the_position_of_its_row():
    assert row_of_each_message([row(1), row(2)]).tolist() == [0, 0, 1, 1, 1, 1]
    assert row_of_each_message([]).tolist() == []
