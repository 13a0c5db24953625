"""Split rows by a hash of their content, stratified by length, without dividing a group of near-duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.split_data.config import Source, SplitConfig
from components.split_data.outcomes import Outcome


@dataclass(frozen=True)
class SplitSizes:
    """Rows that each split asks for; ``train`` None takes all that the others leave."""

    train: int | None
    validation: int
    test: int

    @property
    def total(self) -> int:
        """The least number of rows that there must be."""
        return self.validation + self.test + (self.train or 1)


def split_sizes(config: SplitConfig, n_rows: int) -> SplitSizes:
    """The sizes that ``config`` asks for, of ``n_rows`` usable rows."""

    def count(rows: int | None, fraction: float | None) -> int | None:
        return rows if fraction is None else max(1, round(fraction * n_rows))

    validation = count(config.validation_rows, config.validation_fraction) or 0
    test = count(config.test_rows, config.test_fraction) or 0
    train = count(config.train_rows, config.train_fraction)
    if config.train_fraction is not None and train is not None:
        train = min(train, max(1, n_rows - validation - test))  # each of the three is rounded by itself
    return SplitSizes(train, validation, test)


def rows_in_mix(
    sources: Sequence[Source], source_of: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Mask of the rows that give the sources' weights; no row is repeated, so the scarcest source sets the total.

    ``source_of`` and ``hashes`` have one entry a row: the source's index, and ``row_hash``.

    Raises:
        DataError: a source has no row.
    """
    weights = np.array([source.weight or 0.0 for source in sources])
    if not weights.any():
        return np.ones(len(source_of), dtype=bool)
    available = np.bincount(source_of, minlength=len(sources))
    if not available.all():
        empty = sources[int(np.argmin(available))].data
        raise DataError(
            f"{empty}: none of its rows can be used (of another format, broken, or the same as another source's), and "
            "its weight would leave nothing of the others; take the source out, or correct it"
        )
    shares = np.floor((available / weights).min() * weights + 1e-9).astype(np.int64)
    kept = np.zeros(len(source_of), dtype=bool)
    for number, share in enumerate(shares):
        own = np.flatnonzero(source_of == number)
        kept[own[np.argsort(hashes[own], kind="stable")[:share]]] = True
    return kept


def row_hash(row_id: str, seed: int) -> int:
    """0 to 2^64 - 1, from content and seed alone: rows are taken in this order, so appended rows move few others."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode()).digest()[:8])


class StratifiedSplitter:
    """Takes groups of rows one split after another; a group is never divided."""

    def __init__(self, groups: NDArray[np.int64], n_words: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
        """The arrays have one entry a row; rows with the same number in ``groups`` stay together."""
        _, self._group_of = np.unique(groups, return_inverse=True)
        self._sizes = np.bincount(self._group_of)
        lengths = np.bincount(self._group_of, weights=n_words) / self._sizes
        # Half an octave wide: fixed edges, so that appended rows do not move others to another stratum.
        self._strata = np.floor(2 * np.log2(lengths + 1)).astype(np.int64)
        group_hashes = np.full(len(self._sizes), np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(group_hashes, self._group_of, hashes)
        self._order = np.argsort(group_hashes, kind="stable")
        self._free = np.ones(len(self._sizes), dtype=bool)

    def take(self, n_rows: int) -> NDArray[np.bool_]:
        """Mask of ``n_rows`` rows of groups that are still free, stratum by stratum; fewer where no group fits."""
        chosen = np.zeros(len(self._sizes), dtype=bool)
        free = np.flatnonzero(self._free)
        available = np.bincount(self._strata[free], weights=self._sizes[free].astype(np.float64), minlength=1)
        quotas = _quotas(available, n_rows)
        for stratum in np.flatnonzero(quotas):
            self._fill(chosen, int(quotas[stratum]), self._strata == stratum)
        self._fill(chosen, n_rows - int(self._sizes[chosen].sum()), np.ones(len(chosen), dtype=bool))
        self._free &= ~chosen
        return chosen[self._group_of]

    def rest(self) -> NDArray[np.bool_]:
        """Mask of every row that is still free."""
        return self._free[self._group_of]

    def _fill(self, chosen: NDArray[np.bool_], n_rows: int, allowed: NDArray[np.bool_]) -> None:
        """Choose allowed free groups in the order of their hashes while they fit into ``n_rows``."""
        left = n_rows
        for group in self._order[(allowed & self._free & ~chosen)[self._order]].tolist():
            if left == 0:
                return
            if self._sizes[group] <= left:
                chosen[group] = True
                left -= int(self._sizes[group])


def _quotas(available: NDArray[Any], n_rows: int) -> NDArray[np.int64]:
    """``n_rows`` over strata in proportion to the rows ``available`` in each, by largest remainder."""
    exact = available * (n_rows / max(available.sum(), 1))
    quotas = np.floor(exact).astype(np.int64)
    missing = int(min(n_rows, available.sum()) - quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return np.asarray(quotas, dtype=np.int64)


def stratified_split(splitter: StratifiedSplitter, sizes: SplitSizes) -> dict[Outcome, NDArray[np.bool_]]:
    """A mask of the rows for each split."""
    validation = splitter.take(sizes.validation)
    test = splitter.take(sizes.test)
    train = splitter.rest() if sizes.train is None else splitter.take(sizes.train)
    return {"train": train, "validation": validation, "test": test}


def require_not_empty(masks: Mapping[Outcome, NDArray[np.bool_]], data: str) -> None:
    """Check that no split that must have rows is empty.

    Raises:
        DataError: a group of near-duplicates is larger than what a split asks for.
    """
    for name in ("train", "validation"):
        if not masks[name].any():
            raise DataError(
                f"{data}: no group of near-duplicates is small enough for the {name} rows; ask for more of them, raise "
                "split.duplicates.jaccard_threshold, or set split.duplicates.near: drop"
            )
