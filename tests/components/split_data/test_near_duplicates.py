"""Pairs of near-duplicates, each confirmed by its exact Jaccard similarity, whatever the size of a bucket."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.split_data import near_duplicates as module
from components.split_data.near_duplicates import Bands, Pair, UnionFind, band_hashes_of, bands_for, near_pairs
from components.split_data.ngrams import hash_words
from tests.components.split_data.corpora import prose
from tests.properties import quick


def pairs_of(texts: list[str], threshold: float, *, every: bool = True) -> list[Pair]:
    """The near-duplicates of ``texts`` by shingles of one word."""
    band_hashes, shingles = band_hashes_of(hash_words(texts).ngrams(1), bands_for(threshold))
    rows = [shingles.text(i).astype(np.uint32) for i in range(len(shingles))]
    return list(near_pairs(band_hashes, shingles.lengths(), rows.__getitem__, threshold, every=every))


def jaccard(left: str, right: str) -> float:
    own, other = set(left.split()), set(right.split())
    return len(own & other) / len(own | other) if own | other else 0.0


def exact_pairs(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    return {(i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(texts[i], texts[j]) >= threshold}


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 1.0])
def test_bands_miss_a_pair_at_the_threshold_less_than_once_in_ten_thousand(threshold):
    bands = bands_for(threshold)
    assert (1 - threshold**bands.n_hashes) ** bands.n_bands <= module.MAX_MISSED
    assert bands.n_bands * bands.n_hashes <= module.N_HASHES
    # One hash more in each band would miss too many.
    more = bands.n_hashes + 1
    assert threshold == 1 or (1 - threshold**more) ** (module.N_HASHES // more) > module.MAX_MISSED


def test_equal_texts_share_every_band_and_others_share_none():
    texts = [" ".join(prose(40, 1)), " ".join(reversed(prose(40, 1))), " ".join(prose(40, 2))]
    hashes, shingles = band_hashes_of(hash_words(texts).ngrams(1), Bands(8, 4))
    assert hashes.shape == (3, 8)
    assert hashes[0].tolist() == hashes[1].tolist()
    assert not set(hashes[0].tolist()) & set(hashes[2].tolist())
    assert all(sorted(set(own)) == own for own in (shingles.text(i).tolist() for i in range(3)))


def test_a_pair_has_its_exact_similarity():
    words = prose(20, 1)
    (pair,) = pairs_of([" ".join(words), "other " * 5, " ".join([*words[:-1], "new"])], 0.8)
    assert (pair.first, pair.second) == (0, 2)
    assert pair.jaccard == pytest.approx(19 / 21)


def test_a_pair_exactly_at_the_threshold_is_found():
    words = [f"w{i}" for i in range(10)]
    texts = [" ".join(words), " ".join(words[:8])]
    assert [pair.jaccard for pair in pairs_of(texts, 0.8)] == [0.8]
    assert pairs_of(texts, 0.81) == []


def test_texts_without_words_are_no_duplicates():
    assert pairs_of(["", "", "a"], 0.5) == []


def test_a_pair_of_a_group_may_be_left_out_unless_every_one_is_wanted():
    texts = [" ".join(prose(30, 1))] * 5
    assert len(pairs_of(texts, 0.8)) == 10
    few = pairs_of(texts, 0.8, every=False)
    groups = UnionFind(5)
    for pair in few:
        groups.union(pair.first, pair.second)
    assert {groups.find(i) for i in range(5)} == {0}
    assert len(few) < 10


def family(n: int) -> list[str]:
    """Rows with 88 words in common and 12 of their own, and as the last ten, twins of the first ten."""
    template = prose(88, 0)
    rows = [[*template, *prose(12, seed)] for seed in range(1, n + 1)]
    twins = [[*row[:-3], *prose(3, 1_000 + i)] for i, row in enumerate(rows[:10])]
    return [" ".join(row) for row in [*rows, *twins]]


def test_near_duplicates_are_found_in_a_large_family_that_shares_a_template():
    texts = family(200)
    found = {(pair.first, pair.second) for pair in pairs_of(texts, 0.9)}
    assert found == exact_pairs(texts, 0.9) == {(i, 200 + i) for i in range(10)}


@pytest.fixture
def small_tiers(monkeypatch) -> None:
    """Buckets of more than 3 rows are compared by a matrix, and of more than 8 by neighbours."""
    monkeypatch.setattr(module, "LARGE_BUCKET", 3)
    monkeypatch.setattr(module, "LARGEST_MATRIX", 8)


@pytest.mark.usefixtures("small_tiers")
@pytest.mark.parametrize("n", [2, 3, 4, 8, 9, 40])
@pytest.mark.parametrize("every", [True, False])
def test_near_duplicates_are_one_group_whatever_the_size_of_their_bucket(n, every):
    texts = [" ".join([*prose(48, 1), f"own{i}"]) for i in range(n)]
    groups = UnionFind(n)
    found = pairs_of(texts, 0.8, every=every)
    for pair in found:
        assert pair.jaccard == pytest.approx(48 / 50)
        groups.union(pair.first, pair.second)
    assert {groups.find(i) for i in range(n)} == {0}
    if n <= 8 and every:
        assert len(found) == n * (n - 1) / 2


@pytest.mark.usefixtures("small_tiers")
def test_twins_within_a_family_that_is_too_large_for_a_matrix_are_found_in_other_bands():
    texts = family(40)
    assert {(pair.first, pair.second) for pair in pairs_of(texts, 0.9)} >= {(i, 40 + i) for i in range(10)}


def test_a_row_of_a_matrix_is_linked_to_so_many_earlier_rows_at_most(monkeypatch):
    monkeypatch.setattr(module, "LARGE_BUCKET", 1)
    monkeypatch.setattr(module, "MAX_PAIRS_PER_ROW", 2)
    found = pairs_of([" ".join(prose(30, 1))] * 6, 0.8)
    assert Counter(pair.second for pair in found) == {1: 1, 2: 2, 3: 2, 4: 2, 5: 2}


def test_common_shingles_are_counted_in_blocks_of_columns(monkeypatch):
    monkeypatch.setattr(module, "COLUMNS_AT_ONCE", 3)
    rows = [np.array(own, dtype=np.uint32) for own in ([1, 2, 3, 4, 5, 6, 7, 8], [2, 4, 6, 8], [9], [1, 2, 3, 4, 5])]
    common = module._common_counts(rows)
    assert np.triu(common, 1).astype(int).tolist() == [[0, 4, 0, 5], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]


texts = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8).map(" ".join), max_size=12)


@quick
@given(texts, st.sampled_from([0.5, 0.75, 0.9]))
def test_no_pair_is_wrong_and_none_is_given_twice(own, threshold):
    found = [(pair.first, pair.second) for pair in pairs_of(own, threshold)]
    assert len(set(found)) == len(found)
    assert set(found) <= exact_pairs(own, threshold)


@quick
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 2))
def test_families_of_similar_texts_are_found_whole(seeds, n_new):
    """Texts of one seed differ in at most two of forty words on either side."""
    own = [" ".join([*prose(38, seed), *(f"new{i}x{j}" for j in range(n_new))]) for i, seed in enumerate(seeds)]
    found = {(pair.first, pair.second) for pair in pairs_of(own, 0.8)}
    assert found == exact_pairs(own, 0.8)


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_groups_are_the_connected_positions_and_their_root_is_the_first(edges):
    groups = UnionFind(10)
    for left, right in edges:
        groups.union(left, right)
    component = list(range(10))
    for _ in range(10):
        for left, right in edges:
            component[left] = component[right] = min(component[left], component[right])
    assert [groups.find(at) for at in range(10)] == component
