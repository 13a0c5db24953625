"""The bounded cache of sequences that left their slot."""

from __future__ import annotations

import random

import numpy as np
import pytest

from components.model_server.engine.prefix_cache import PrefixCache, common_prefix_length

SIZE = 10


def add(cache: PrefixCache, *sequences: list[int], size: int = SIZE) -> None:
    for tokens in sequences:
        cache.add(tokens, np.zeros(size, dtype=np.uint8))


def match(cache: PrefixCache, tokens: list[int]) -> tuple[list[int] | None, int]:
    entry, n = cache.longest_match(tokens)
    return (None if entry is None else entry.tokens), n


def test_the_copy_that_shares_most_is_found_and_of_equals_the_shortest():
    cache = PrefixCache(100)
    assert match(cache, [1, 2]) == (None, 0)
    add(cache, [1, 2, 3, 4], [1, 2, 9], [7])
    assert match(cache, [1, 2, 3]) == ([1, 2, 3, 4], 3)
    assert match(cache, [1, 2]) == ([1, 2, 9], 2)
    assert match(cache, [5])[1] == 0


def test_the_least_recently_used_copy_is_evicted():
    cache = PrefixCache(3 * SIZE)
    add(cache, [1, 1], [2, 2], [3, 3])
    used, _ = cache.longest_match([1, 1])
    assert used is not None
    cache.touch(used)
    add(cache, [4, 4])
    assert [match(cache, [n, n])[1] for n in (1, 2, 3, 4)] == [2, 0, 2, 2]
    assert cache.n_bytes == 3 * SIZE


def test_a_copy_takes_the_place_of_those_that_it_begins_with():
    cache = PrefixCache(100)
    add(cache, [1, 2], [1, 2, 3], [1, 5])
    assert cache.n_bytes == 2 * SIZE
    assert cache.covers([1, 2])
    assert cache.covers([1, 2, 3])
    assert not cache.covers([1, 2, 3, 4])
    assert not cache.covers([2])
    add(cache, [1, 5, 6])
    assert cache.n_bytes == 2 * SIZE


def test_a_copy_larger_than_the_cache_is_not_kept_and_evicts_nothing():
    cache = PrefixCache(2 * SIZE)
    add(cache, [1, 1], [2, 2])
    add(cache, [3, 3], size=2 * SIZE + 1)
    assert [match(cache, [n, n])[1] for n in (1, 2, 3)] == [2, 2, 0]
    nothing = PrefixCache(0)
    add(nothing, [1, 1])
    assert (nothing.n_bytes, match(nothing, [1, 1])) == (0, (None, 0))


def test_its_bytes_are_those_of_its_copies_and_never_more_than_allowed():
    draw, cache = random.Random(2), PrefixCache(64)
    for _ in range(500):
        add(cache, draw.choices(range(3), k=draw.randrange(1, 6)), size=draw.randrange(1, 30))
        assert cache.n_bytes == sum(entry.state.nbytes for entry in cache._entries.values()) <= 64


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 2, 3], [1, 9, 3], 1), ([5], [6], 0)],
)
def test_common_prefix_length(one, other, expected):
    assert common_prefix_length(one, other) == common_prefix_length(other, one) == expected


def test_common_prefix_length_is_that_of_a_loop():
    draw = random.Random(3)
    for _ in range(500):
        one, other = (draw.choices(range(2), k=draw.randrange(9)) for _ in range(2))
        slow = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        assert common_prefix_length(one, other) == slow, (one, other)
