"""Why rows are not worth training on: too few or too many turns or tokens, text that repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.artifacts.contracts import Row
from components.split_data.config import QualityConfig
from components.split_data.ngrams import HashedTexts

Reason = tuple[str, str]  # a kind in a word or two, and the reason with its figures

REPETITION_NGRAM = 3  # words
# A short answer may repeat itself: "Yes, yes, yes."
MIN_NGRAMS_TO_REPEAT = 30


def turns_problem(row: Row, quality: QualityConfig) -> Reason | None:
    """Why a row has too few or too many answers, or None."""
    n_turns = sum(message.role == "assistant" for message in row.messages)
    if quality.min_turns is not None and n_turns < quality.min_turns:
        return "too few turns", f"{n_turns} answers, fewer than min_turns {quality.min_turns}"
    if quality.max_turns is not None and n_turns > quality.max_turns:
        return "too many turns", f"{n_turns} answers, more than max_turns {quality.max_turns}"
    return None


def tokens_problem(n_tokens: int, quality: QualityConfig) -> Reason | None:
    """Why a row has too few or too many tokens, or None."""
    if quality.min_tokens is not None and n_tokens < quality.min_tokens:
        return "too short", f"{n_tokens} tokens, fewer than min_tokens {quality.min_tokens}"
    if quality.max_tokens is not None and n_tokens > quality.max_tokens:
        return "too long", f"{n_tokens} tokens, more than max_tokens {quality.max_tokens}"
    return None


def repetition_problem(share: float, quality: QualityConfig) -> Reason | None:
    """Why an answer of which ``share`` repeats itself is too repetitive, or None."""
    if share <= quality.max_repetition:
        return None
    limit = f"more than max_repetition {quality.max_repetition}"
    return "repeated text", f"{100 * share:.0f} % of an answer repeats itself, {limit}"


def repetition(words: HashedTexts) -> NDArray[np.float64]:
    """For each text, the share of its n-grams that occur earlier in it; 0 for a short text."""
    ngrams = words.ngrams(REPETITION_NGRAM)
    shares = np.zeros(len(ngrams))
    for i in np.flatnonzero(ngrams.lengths() >= MIN_NGRAMS_TO_REPEAT).tolist():
        own = ngrams.text(i)
        shares[i] = 1 - len(np.unique(own)) / len(own)
    return shares


def row_of_each_message(rows: Sequence[Row]) -> NDArray[np.int64]:
    """For each message of all rows, in order, the position of its row."""
    return np.repeat(np.arange(len(rows)), [len(row.messages) for row in rows])
