"""Rows that nearly say the same: candidates by MinHash and banding, each confirmed by its exact Jaccard similarity.

Two rows' similarity is the share of their shingles (runs of words of user and assistant) that both have. MinHash is
rensa's; what is here chooses the bands for a threshold, confirms pairs and joins them into groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.split_data.words import Words

N_HASHES = 128
MINHASH_SEED = 1
# How often a pair at the very threshold may share no band.
MAX_MISSED = 1e-4
# In a larger bucket a row is compared with its neighbours only: rows that are alike meet in many buckets.
LARGE_BUCKET = 64
NEIGHBOURS = 4

Shingles = Callable[[int], NDArray[np.uint32]]


@dataclass(frozen=True)
class Bands:
    """A signature of ``N_HASHES`` cut into ``n_bands`` of ``n_rows`` hashes: rows alike share a whole band."""

    n_bands: int
    n_rows: int


@dataclass(frozen=True)
class Pair:
    """Two rows by position, the earlier one first, and the share of their shingles that both have."""

    first: int
    second: int
    jaccard: float


def bands_for(threshold: float) -> Bands:
    """The most selective bands that miss a pair at ``threshold`` at most once in 1 / ``MAX_MISSED``."""
    fitting = (Bands(N_HASHES // n_rows, n_rows) for n_rows in range(N_HASHES, 0, -1))
    return next(bands for bands in fitting if (1 - threshold**bands.n_rows) ** bands.n_bands <= MAX_MISSED)


def marks_of(shingles: Words, bands: Bands) -> tuple[NDArray[np.uint64], Words]:
    """The band hashes of each text, (texts, bands), and each text's distinct shingles, sorted."""
    import rensa

    distinct = _distinct(shingles)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        distinct.hashes, distinct.starts.astype(np.uint64), N_HASHES, MINHASH_SEED
    )
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(distinct), N_HASHES)
    cut = signatures[:, : bands.n_bands * bands.n_rows].reshape(len(distinct), bands.n_bands, bands.n_rows)
    marks = np.zeros((len(distinct), bands.n_bands), dtype=np.uint64)
    for row in range(bands.n_rows):
        marks = (marks ^ cut[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        marks ^= marks >> np.uint64(32)
    return marks, distinct


def _distinct(shingles: Words) -> Words:
    """Each text's shingles once, sorted, cut to 32 bits."""
    short = shingles.hashes >> np.uint64(32)
    text = np.repeat(np.arange(len(shingles), dtype=np.uint64), shingles.lengths())
    both = np.unique((text << np.uint64(32)) | short)
    counts = np.bincount((both >> np.uint64(32)).astype(np.int64), minlength=len(shingles))
    return Words(both & np.uint64(0xFFFFFFFF), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def near_pairs(
    marks: NDArray[np.uint64], sizes: NDArray[np.int64], shingles: Shingles, threshold: float, *, every: bool
) -> Iterator[Pair]:
    """The pairs of rows whose similarity is at least ``threshold``.

    ``sizes`` is the number of shingles of each row. Without ``every``, a pair whose rows are linked by other pairs
    already may be left out.
    """
    groups = Groups(len(marks))
    seen: set[int] = set()
    for band in range(marks.shape[1]):
        for first, second in _candidates(marks[:, band], sizes, threshold):
            code = first * len(marks) + second
            if code in seen or (not every and groups.root(first) == groups.root(second)):
                continue
            seen.add(code)
            jaccard = _jaccard(shingles(first), shingles(second))
            if jaccard >= threshold:
                groups.join(first, second)
                yield Pair(first, second, jaccard)


def _candidates(marks: NDArray[np.uint64], sizes: NDArray[np.int64], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs that share a mark and whose sizes leave the similarity possible."""
    order = np.argsort(marks, kind="stable")
    edges = np.flatnonzero(np.diff(marks[order])) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(order)]])
    for at in np.flatnonzero(ends - starts > 1):
        bucket = order[starts[at] : ends[at]]
        for first, second in _pairs_of(bucket.tolist()):
            small, large = sorted((sizes[first], sizes[second]))
            if 0 < large * threshold <= small:
                yield first, second


def _pairs_of(bucket: Sequence[int]) -> Iterator[tuple[int, int]]:
    reach = len(bucket) if len(bucket) <= LARGE_BUCKET else NEIGHBOURS
    for at, second in enumerate(bucket):
        if at > reach:
            yield bucket[0], second
        yield from ((first, second) for first in bucket[max(0, at - reach) : at])


def _jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)


class Groups:
    """Positions joined into groups; a group's root is its first position."""

    def __init__(self, n: int) -> None:
        self._above = list(range(n))

    def root(self, at: int) -> int:
        """The first position of the group that ``at`` is in."""
        while self._above[at] != at:
            self._above[at] = self._above[self._above[at]]
            at = self._above[at]
        return at

    def join(self, left: int, right: int) -> None:
        """Make one group of two."""
        low, high = sorted((self.root(left), self.root(right)))
        self._above[high] = low
