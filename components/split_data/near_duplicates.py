"""Rows that nearly say the same: candidates by MinHash and banding, each confirmed by its exact Jaccard similarity.

Two rows' similarity is the share of their shingles (runs of words of user and assistant) that both have. MinHash is
rensa's; what is here chooses the bands for a threshold, confirms pairs and joins them into groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.split_data.words import Words

N_HASHES = 128
MINHASH_SEED = 1
# How often a pair at the very threshold may share no band.
MAX_MISSED = 1e-4
# Rows of a larger bucket share a lot, such as a template: they are compared all at once, in one matrix product.
LARGE_BUCKET = 64
# A bucket that is larger still is cut by the other bands; in what is left a row is compared with its neighbours only.
LARGEST_MATRIX = 4_000
NEIGHBOURS = 4
COLUMNS_AT_ONCE = 2_048
# Links of one row to earlier ones of its bucket that are told; more would say nothing new.
MOST_LINKS = 8

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

    def is_new(first: int, second: int) -> bool:
        code = first * len(marks) + second
        if code in seen or (not every and groups.root(first) == groups.root(second)):
            return False
        seen.add(code)
        small, large = sorted((sizes[first], sizes[second]))
        return bool(0 < large * threshold <= small)

    for band in range(marks.shape[1]):
        for bucket in _buckets(np.flatnonzero(sizes), marks[:, band]):
            for pair in _pairs_in(bucket, band, marks, shingles, threshold, is_new):
                groups.join(pair.first, pair.second)
                yield pair


def _buckets(rows: NDArray[np.int64], marks: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """The ``rows`` that share a mark, two and more of them, ascending."""
    order = rows[np.argsort(marks[rows], kind="stable")]
    edges = np.flatnonzero(np.diff(marks[order])) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(order)]])
    return (order[starts[at] : ends[at]] for at in np.flatnonzero(ends - starts > 1))


def _pairs_in(
    bucket: NDArray[np.int64],
    band: int,
    marks: NDArray[np.uint64],
    shingles: Shingles,
    threshold: float,
    is_new: Callable[[int, int], bool],
) -> Iterator[Pair]:
    if len(bucket) <= LARGE_BUCKET:
        yield from _confirmed(_each_with_the_last(bucket.tolist(), len(bucket)), shingles, threshold, is_new)
    elif len(bucket) <= LARGEST_MATRIX:
        yield from _pairs_of_family(bucket, shingles, threshold, is_new)
    else:
        for other in set(range(marks.shape[1])) - {band}:
            for part in _buckets(bucket, marks[:, other]):
                if len(part) <= LARGEST_MATRIX:
                    yield from _pairs_of_family(part, shingles, threshold, is_new)
                else:
                    near = _each_with_the_last(part.tolist(), NEIGHBOURS)
                    yield from _confirmed(near, shingles, threshold, is_new)


def _each_with_the_last(bucket: Sequence[int], reach: int) -> Iterator[tuple[int, int]]:
    """Each row with the first and the last ``reach`` rows before it."""
    for at, second in enumerate(bucket):
        if at > reach:
            yield bucket[0], second
        yield from ((first, second) for first in bucket[max(0, at - reach) : at])


def _confirmed(
    pairs: Iterable[tuple[int, int]], shingles: Shingles, threshold: float, is_new: Callable[[int, int], bool]
) -> Iterator[Pair]:
    for first, second in pairs:
        if is_new(first, second) and (jaccard := _jaccard(shingles(first), shingles(second))) >= threshold:
            yield Pair(first, second, jaccard)


def _pairs_of_family(
    bucket: NDArray[np.int64], shingles: Shingles, threshold: float, is_new: Callable[[int, int], bool]
) -> Iterator[Pair]:
    """The pairs of many rows that share much, each confirmed exactly: common shingles are counted all at once."""
    own = [shingles(int(row)) for row in bucket]
    common = _common_counts(own)
    sizes = np.array([len(row) for row in own], dtype=np.float32)
    for at in range(1, len(bucket)):
        jaccard = common[at, :at] / (sizes[at] + sizes[:at] - common[at, :at])
        for before in np.flatnonzero(jaccard >= threshold)[:MOST_LINKS].tolist():
            first, second = int(bucket[before]), int(bucket[at])
            if is_new(first, second):
                yield Pair(first, second, float(jaccard[before]))


def _common_counts(rows: Sequence[NDArray[np.uint32]]) -> NDArray[np.float32]:
    """How many shingles each two rows share, (rows, rows)."""
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    _, column_of, n_rows = np.unique(np.concatenate(rows), return_inverse=True, return_counts=True)
    # What one row alone has is common to no two.
    shared = n_rows[column_of] > 1
    columns, column_of = np.unique(column_of[shared], return_inverse=True)
    row_of = row_of[shared]
    common = np.zeros((len(rows), len(rows)), dtype=np.float32)
    for first in range(0, len(columns), COLUMNS_AT_ONCE):
        inside = (column_of >= first) & (column_of < first + COLUMNS_AT_ONCE)
        block = np.zeros((len(rows), COLUMNS_AT_ONCE), dtype=np.float32)
        block[row_of[inside], column_of[inside] - first] = 1
        common += block @ block.T
    return common


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
