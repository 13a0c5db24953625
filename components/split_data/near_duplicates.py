"""Near-duplicates: candidates by MinHash LSH, each confirmed by its exact Jaccard similarity.

The similarity of two rows is the share of their shingles (word n-grams of user and assistant) that both have. rensa
computes the MinHash; this module chooses the bands for a threshold, confirms pairs and joins them into groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.split_data.ngrams import HashedTexts

N_HASHES = 128
MINHASH_SEED = 1
# The probability that a pair exactly at the threshold shares no band.
MAX_MISSED = 1e-4
# The rows of a larger bucket share much text, such as a template: they are compared by one matrix product.
LARGE_BUCKET = 64
# In a bucket that is larger still, a row is compared with the first row and with those just before it: a family of
# near-duplicates is linked that way, and a pair that is more similar than its family shares smaller buckets as well.
LARGEST_MATRIX = 4_000
NEIGHBOURS = 4
COLUMNS_AT_ONCE = 2_048
# Pairs of one row with earlier ones of its bucket; more would join no further rows.
MAX_PAIRS_PER_ROW = 8

Shingles = Callable[[int], NDArray[np.uint32]]


@dataclass(frozen=True)
class Bands:
    """A signature of ``N_HASHES`` cut into ``n_bands`` of ``n_hashes``: similar rows share all hashes of a band."""

    n_bands: int
    n_hashes: int


@dataclass(frozen=True)
class Pair:
    """Two rows by position, the earlier one first, and the share of their shingles that both have."""

    first: int
    second: int
    jaccard: float


def bands_for(threshold: float) -> Bands:
    """The most selective bands that miss a pair at ``threshold`` at most once in 1 / ``MAX_MISSED``."""
    fitting = (Bands(N_HASHES // n_hashes, n_hashes) for n_hashes in range(N_HASHES, 0, -1))
    return next(bands for bands in fitting if (1 - threshold**bands.n_hashes) ** bands.n_bands <= MAX_MISSED)


def band_hashes_of(shingles: HashedTexts, bands: Bands) -> tuple[NDArray[np.uint64], HashedTexts]:
    """A hash of each band of each text's signature, (texts, bands), and each text's distinct shingles, sorted."""
    import rensa

    distinct = _distinct(shingles)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        distinct.hashes, distinct.starts.astype(np.uint64), N_HASHES, MINHASH_SEED
    )
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(distinct), N_HASHES)
    cut = signatures[:, : bands.n_bands * bands.n_hashes].reshape(len(distinct), bands.n_bands, bands.n_hashes)
    hashes = np.zeros((len(distinct), bands.n_bands), dtype=np.uint64)
    for at in range(bands.n_hashes):
        hashes = (hashes ^ cut[:, :, at]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(32)
    return hashes, distinct


def _distinct(shingles: HashedTexts) -> HashedTexts:
    """Each text's shingles once, sorted, cut to 32 bits."""
    short = shingles.hashes >> np.uint64(32)
    text = np.repeat(np.arange(len(shingles), dtype=np.uint64), shingles.lengths())
    both = np.unique((text << np.uint64(32)) | short)
    counts = np.bincount((both >> np.uint64(32)).astype(np.int64), minlength=len(shingles))
    return HashedTexts(both & np.uint64(0xFFFFFFFF), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def near_pairs(
    band_hashes: NDArray[np.uint64], sizes: NDArray[np.int64], shingles: Shingles, threshold: float, *, every: bool
) -> Iterator[Pair]:
    """The pairs of rows whose similarity is at least ``threshold``.

    ``sizes`` is the number of shingles of each row. Without ``every``, a pair whose rows are linked by other pairs
    already may be left out.
    """
    groups = UnionFind(len(band_hashes))
    seen: set[int] = set()

    def is_new(first: int, second: int) -> bool:
        code = first * len(band_hashes) + second
        if code in seen or (not every and groups.find(first) == groups.find(second)):
            return False
        seen.add(code)
        small, large = sorted((sizes[first], sizes[second]))
        return bool(0 < large * threshold <= small)

    for band in range(band_hashes.shape[1]):
        for bucket in _buckets(np.flatnonzero(sizes), band_hashes[:, band]):
            for pair in _pairs_in(bucket, shingles, threshold, is_new):
                groups.union(pair.first, pair.second)
                yield pair


def _buckets(rows: NDArray[np.int64], band_hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """The ``rows`` that share a hash of one band, ascending; each bucket has two or more."""
    order = rows[np.argsort(band_hashes[rows], kind="stable")]
    edges = np.flatnonzero(np.diff(band_hashes[order])) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(order)]])
    return (order[starts[at] : ends[at]] for at in np.flatnonzero(ends - starts > 1))


def _pairs_in(
    bucket: NDArray[np.int64], shingles: Shingles, threshold: float, is_new: Callable[[int, int], bool]
) -> Iterator[Pair]:
    if LARGE_BUCKET < len(bucket) <= LARGEST_MATRIX:
        return _pairs_by_matrix(bucket, shingles, threshold, is_new)
    reach = len(bucket) if len(bucket) <= LARGE_BUCKET else NEIGHBOURS
    return _confirmed(_each_with_previous(bucket.tolist(), reach), shingles, threshold, is_new)


def _each_with_previous(bucket: Sequence[int], reach: int) -> Iterator[tuple[int, int]]:
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


def _pairs_by_matrix(
    bucket: NDArray[np.int64], shingles: Shingles, threshold: float, is_new: Callable[[int, int], bool]
) -> Iterator[Pair]:
    """The pairs of many rows that share much, each confirmed exactly by a matrix of common shingles."""
    own = [shingles(int(row)) for row in bucket]
    common = _common_counts(own)
    sizes = np.array([len(row) for row in own], dtype=np.float32)
    for at in range(1, len(bucket)):
        jaccard = common[at, :at] / (sizes[at] + sizes[:at] - common[at, :at])
        for before in np.flatnonzero(jaccard >= threshold)[:MAX_PAIRS_PER_ROW].tolist():
            first, second = int(bucket[before]), int(bucket[at])
            if is_new(first, second):
                yield Pair(first, second, float(jaccard[before]))


def _common_counts(rows: Sequence[NDArray[np.uint32]]) -> NDArray[np.float32]:
    """How many shingles each two rows share, (rows, rows)."""
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    _, column_of, n_rows = np.unique(np.concatenate(rows), return_inverse=True, return_counts=True)
    # Shingles of one row alone are common to no two.
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


class UnionFind:
    """Positions joined into groups; the root of a group is its first position."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, at: int) -> int:
        """The first position of the group that ``at`` is in."""
        while self._parent[at] != at:
            self._parent[at] = self._parent[self._parent[at]]
            at = self._parent[at]
        return at

    def union(self, left: int, right: int) -> None:
        """Make one group of two."""
        low, high = sorted((self.find(left), self.find(right)))
        self._parent[high] = low
