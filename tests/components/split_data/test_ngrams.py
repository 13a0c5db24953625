"""Texts as word hashes, and their n-grams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.split_data.ngrams import HashedTexts, hash_words, normalize
from tests.properties import quick

words = st.sampled_from(["a", "b", "c", "lorry", "+", "3"])
sentences = st.lists(words, max_size=8).map(" ".join)


def lists(hashed: HashedTexts) -> list[list[int]]:
    """The hashes of each text."""
    return [hashed.text(i).tolist() for i in range(len(hashed))]


def test_the_same_word_has_the_same_hash_in_every_text():
    (first, second, third), other, none = lists(hash_words(["a b a", "b", ""]))
    assert first == third != second
    assert other == [second]
    assert none == []


@pytest.mark.parametrize(
    ("text", "other"),
    [("Lorry", "lorry"), ("STRASSE", "straße"), ("\uff41", "a"), ("a  b", "a\n\tb"), ("\ufb01n", "fin")],
)
def test_case_white_space_and_compatibility_forms_do_not_count(text, other):
    assert lists(hash_words([text])) == lists(hash_words([other]))
    assert normalize(text) == normalize(other)


@pytest.mark.parametrize(("text", "other"), [("3 + 4", "3 - 4"), ("a b", "b a"), ("ab", "a b"), ("résumé", "resume")])
def test_signs_order_and_accents_count(text, other):
    assert lists(hash_words([text])) != lists(hash_words([other]))


@pytest.mark.parametrize(
    ("text", "n"), [("東京都", 3), ("สวัส", 4), ("lorry東", 2), ("it's", 3), ("🙂🙂", 2), ("a_b", 1)]
)
def test_unspaced_scripts_and_signs_count_by_character(text, n):
    assert hash_words([text]).lengths().tolist() == [n]


def test_ngrams_of_a_short_text_are_the_whole_text_and_an_empty_text_has_none():
    hashed = hash_words(["a b c d", "a b", "", "a b c"])
    assert hashed.ngrams(3).lengths().tolist() == [2, 1, 0, 1]
    long, short, _, whole = lists(hashed.ngrams(3))
    assert long[0] == whole[0]
    assert short[0] not in long


@quick
@given(st.lists(sentences, max_size=5), st.integers(1, 4))
def test_equal_ngrams_have_equal_hashes_wherever_they_are(texts, n):
    """The hash of an n-gram follows from its words alone: not from its text, its position or its neighbours."""
    ngrams = hash_words(texts).ngrams(n)
    seen: dict[tuple[str, ...], int] = {}
    for text, hashes in zip(texts, lists(ngrams), strict=True):
        split = text.split()
        expected = [tuple(split[i : i + n]) for i in range(max(len(split) - n + 1, min(1, len(split))))]
        assert len(hashes) == len(expected)
        for ngram, value in zip(expected, hashes, strict=True):
            assert seen.setdefault(ngram, value) == value
    assert len(set(seen.values())) == len(seen)


@quick
@given(st.lists(sentences, min_size=1, max_size=6), st.data())
def test_joined_texts_are_one_text_with_the_words_of_all(texts, data):
    n = data.draw(st.integers(0, len(texts)))
    joined = hash_words(texts).joined([n, len(texts) - n])
    assert lists(joined) == lists(hash_words([" ".join(texts[:n]), " ".join(texts[n:])]))


@quick
@given(st.lists(st.tuples(sentences, st.booleans()), max_size=6))
def test_without_empties_the_texts_of_the_mask_and_keeps_the_others(texts):
    hashed = hash_words([text for text, _ in texts])
    emptied = np.array([mask for _, mask in texts], dtype=bool)
    expected = [[] if mask else own for own, mask in zip(lists(hashed), emptied, strict=True)]
    assert lists(hashed.without(emptied)) == expected


@pytest.mark.parametrize("text", ["", "a", "a b", "a b c"])
def test_an_ngram_may_be_longer_than_all_texts_together(text):
    """And its hash is that of the same words among longer texts."""
    alone = lists(hash_words([text]).ngrams(20))
    among_others = lists(hash_words(["c " * 30, text, "d " * 30]).ngrams(20))
    assert alone == among_others[1:2]


def test_no_texts_have_no_hashes():
    hashed = hash_words([])
    assert (len(hashed), len(hashed.ngrams(3)), hashed.lengths().tolist()) == (0, 0, [])
