"""Which rows each split takes: whole groups, by their hash, stratified by length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import DataError
from components.split_data.config import Source, SplitConfig
from components.split_data.stratified_split import (
    SplitSizes,
    StratifiedSplitter,
    require_not_empty,
    row_hash,
    rows_in_mix,
    split_sizes,
    stratified_split,
)
from tests.properties import quick


def config(**settings: object) -> SplitConfig:
    return SplitConfig.model_validate({"data": "a.jsonl", **settings})


def splitter(groups: list[int], n_words: list[int] | None = None, seed: int = 0) -> StratifiedSplitter:
    hashes = [row_hash(str(i), seed) for i in range(len(groups))]
    lengths = [10] * len(groups) if n_words is None else n_words
    return StratifiedSplitter(np.array(groups), np.array(lengths), np.array(hashes, dtype=np.uint64))


@pytest.mark.parametrize(
    ("settings", "n_rows", "sizes"),
    [
        ({"validation_rows": 3}, 10, SplitSizes(None, 3, 0)),
        ({"validation_rows": 3, "test_rows": 2, "train_rows": 4}, 10, SplitSizes(4, 3, 2)),
        ({"validation_fraction": 0.25, "test_fraction": 0.2}, 10, SplitSizes(None, 2, 2)),
        ({"validation_fraction": 0.001}, 10, SplitSizes(None, 1, 0)),
        # 0.5, 0.25 and 0.25 of 6 are 3, 1.5 and 1.5 rows, which round to 7 together.
        ({"train_fraction": 0.5, "validation_fraction": 0.25, "test_fraction": 0.25}, 6, SplitSizes(2, 2, 2)),
        ({"train_fraction": 0.5, "validation_rows": 9}, 10, SplitSizes(1, 9, 0)),
    ],
)
def test_sizes_are_counts_or_rounded_fractions_of_at_least_one_row(settings, n_rows, sizes):
    assert split_sizes(config(**settings), n_rows) == sizes


@pytest.mark.parametrize(("train", "total"), [(None, 6), (4, 9)])
def test_the_rows_that_must_be_there_count_one_for_train_where_it_takes_the_rest(train, total):
    assert SplitSizes(train, 3, 2).total == total


def test_a_hash_follows_from_id_and_seed():
    assert row_hash("a", 0) == row_hash("a", 0)
    assert len({row_hash("a", 0), row_hash("b", 0), row_hash("a", 1)}) == 3
    assert 0 <= row_hash("a", 0) < 2**64


def mix(weights: list[float | None], source_of: list[int]) -> list[int]:
    sources = [Source(data=f"{i}.jsonl", weight=weight) for i, weight in enumerate(weights)]
    hashes = np.array([row_hash(str(i), 0) for i in range(len(source_of))], dtype=np.uint64)
    kept = rows_in_mix(sources, np.array(source_of), hashes)
    return np.bincount(np.array(source_of)[kept], minlength=len(weights)).tolist()


@pytest.mark.parametrize(
    ("weights", "counts", "kept"),
    [
        ([None, None], [3, 5], [3, 5]),
        ([1.0, 1.0], [3, 5], [3, 3]),
        ([3.0, 1.0], [30, 90], [30, 10]),
        ([0.1, 0.2], [10, 100], [10, 20]),
        ([1.0], [7], [7]),
    ],
)
def test_the_source_that_runs_out_first_sets_the_size_of_a_mix(weights, counts, kept):
    source_of = [i for i, count in enumerate(counts) for _ in range(count)]
    assert mix(weights, source_of) == kept


def test_a_weighted_source_without_a_row_is_an_error_with_its_name():
    with pytest.raises(DataError, match=r"1\.jsonl: none of its rows can be used.*take the source out, or correct it"):
        mix([1.0, 1.0], [0, 0])


def test_a_mix_takes_the_rows_with_the_lowest_hashes():
    hashes = np.array([5, 1, 9, 3], dtype=np.uint64)
    sources = [Source(data="a.jsonl", weight=1), Source(data="b.jsonl", weight=1)]
    assert rows_in_mix(sources, np.array([0, 0, 0, 1]), hashes).tolist() == [False, True, False, True]


def test_a_split_has_the_same_share_of_every_length():
    lengths = [20, 200] * 50
    taken = splitter(list(range(100)), lengths).take(20)
    assert np.array(lengths)[taken].tolist().count(20) == 10


def test_shares_of_strata_are_rounded_by_the_largest_remainder():
    lengths = [20] * 7 + [200] * 3
    taken = splitter(list(range(10)), lengths).take(5)
    # 3.5 and 1.5 rows: of equal remainders the first stratum gets the row.
    assert sorted(np.array(lengths)[taken].tolist()) == [20] * 4 + [200]


def test_a_group_that_does_not_fit_is_left_to_the_others():
    own = splitter([0, 0, 0, 1, 2])
    assert own.take(2).sum() == 2
    assert own.rest().tolist() == [True, True, True, False, False]


def test_fewer_rows_are_taken_where_no_group_fits():
    assert splitter([0, 0, 0]).take(2).sum() == 0


def test_nothing_is_taken_of_nothing():
    assert splitter([0, 1]).take(0).sum() == 0


@pytest.mark.parametrize("name", ["train", "validation"])
def test_an_empty_split_is_an_error_that_names_the_settings(name):
    masks = {split: np.array([split != name]) for split in ("train", "validation", "test")}
    with pytest.raises(DataError) as caught:
        require_not_empty(masks, "rows.jsonl")
    for fact in ("rows.jsonl", f"the {name} rows", "split.duplicates.jaccard_threshold", "near: drop"):
        assert fact in str(caught.value)


def test_an_empty_test_split_is_allowed():
    require_not_empty({"train": np.array([True]), "validation": np.array([True]), "test": np.array([False])}, "a")


groups = st.lists(st.integers(0, 12), min_size=3, max_size=40)
sizes = st.builds(SplitSizes, st.none() | st.integers(1, 10), st.integers(0, 10), st.integers(0, 10))


@quick
@given(groups, sizes, st.integers(0, 3), st.data())
def test_splits_are_disjoint_whole_groups_of_at_most_the_rows_asked_for(own, wanted, seed, data):
    lengths = data.draw(st.lists(st.integers(1, 500), min_size=len(own), max_size=len(own)))
    masks = stratified_split(splitter(own, lengths, seed), wanted)
    taken = np.sum([mask.astype(int) for mask in masks.values()], axis=0)
    assert taken.max() <= 1
    for name, mask in masks.items():
        for group in set(own):
            assert len(set(mask[np.array(own) == group].tolist())) == 1
        if (size := getattr(wanted, name)) is not None:
            assert mask.sum() <= size
    if wanted.train is None:
        assert taken.min() == 1


@quick
@given(st.permutations(list(range(30))), st.integers(0, 3))
def test_the_order_of_the_rows_does_not_change_the_split(order, seed):
    groups, lengths = [i // 3 for i in range(30)], [10 + 40 * (i // 3) for i in range(30)]
    hashes = np.array([row_hash(str(i), seed) for i in range(30)], dtype=np.uint64)

    def taken(rows: list[int]) -> set[int]:
        own = StratifiedSplitter(np.array(groups)[rows], np.array(lengths)[rows], hashes[rows])
        return {row for row, mask in zip(rows, own.take(9), strict=True) if mask}

    assert taken(order) == taken(list(range(30)))


def test_rows_that_are_added_leave_most_others_in_their_split():
    before, after = (set(np.flatnonzero(splitter(list(range(n))).take(20)).tolist()) for n in (200, 210))
    assert len(before & after) >= 16
