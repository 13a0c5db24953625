"""Which rows go to which split: whole groups of near-duplicates, by lot, with the same lengths everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.split_data.accounts import Outcome
from components.split_data.config import Source, SplitConfig

UNUSED = -1


@dataclass(frozen=True)
class Wanted:
    """Rows that each split asks for; ``train`` None takes all that the others leave."""

    train: int | None
    validation: int
    test: int

    @property
    def total(self) -> int:
        """Rows that there must be at least."""
        return self.validation + self.test + (self.train or 1)


def wanted(config: SplitConfig, n_rows: int) -> Wanted:
    """What ``config`` asks for of ``n_rows`` usable rows."""

    def count(rows: int | None, fraction: float | None) -> int | None:
        return rows if fraction is None else max(1, round(fraction * n_rows))

    validation, test = (
        count(config.validation_rows, config.validation_fraction) or 0,
        count(config.test_rows, config.test_fraction) or 0,
    )
    train = count(config.train_rows, config.train_fraction)
    if config.train_fraction is not None and train is not None:
        train = min(train, max(1, n_rows - validation - test))  # each is rounded by itself
    return Wanted(train, validation, test)


def mixed(sources: Sequence[Source], source_of: NDArray[np.int64], draws: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows keep the sources' weights: as many as the source allows that runs out first; none is repeated.

    Raises:
        DataError: a source has no row.
    """
    weights = np.array([source.weight or 0.0 for source in sources])
    if not weights.any():
        return np.ones(len(source_of), dtype=bool)
    there = np.bincount(source_of, minlength=len(sources))
    if not there.all():
        empty = sources[int(np.argmin(there))].data
        raise DataError(
            f"{empty}: none of its rows can be used (of another form, broken, or the same as another source's), and "
            "its weight would leave nothing of the others; take the source out, or mend it"
        )
    shares = np.floor((there / weights).min() * weights + 1e-9).astype(np.int64)
    kept = np.zeros(len(source_of), dtype=bool)
    for number, share in enumerate(shares):
        own = np.flatnonzero(source_of == number)
        kept[own[np.argsort(draws[own], kind="stable")[:share]]] = True
    return kept


def draw(identity: str, seed: int) -> int:
    """A row's lot, 0 to 2^64 - 1: it follows from content and seed alone, so appended rows move few others."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{identity}".encode()).digest()[:8])


class Dealer:
    """Deals groups of rows out; a group is never divided."""

    def __init__(self, groups: NDArray[np.int64], n_words: NDArray[np.int64], draws: NDArray[np.uint64]) -> None:
        """``groups`` numbers each row's group; rows with the same number stay together."""
        _, self._group_of = np.unique(groups, return_inverse=True)
        self._sizes = np.bincount(self._group_of)
        lengths = np.bincount(self._group_of, weights=n_words) / self._sizes
        # Half an octave wide: fixed edges, so that appended rows do not move others to another stratum.
        self._strata = np.floor(2 * np.log2(lengths + 1)).astype(np.int64)
        lots = np.full(len(self._sizes), np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(lots, self._group_of, draws)
        self._order = np.argsort(lots, kind="stable")
        self._free = np.ones(len(self._sizes), dtype=bool)

    def take(self, n_rows: int) -> NDArray[np.bool_]:
        """Mark ``n_rows`` rows of groups that are still free, stratum by stratum; fewer where groups do not fit."""
        chosen = np.zeros(len(self._sizes), dtype=bool)
        free = np.flatnonzero(self._free)
        there = np.bincount(self._strata[free], weights=self._sizes[free].astype(np.float64), minlength=1)
        quotas = _shares(there, n_rows)
        for stratum in np.flatnonzero(quotas):
            self._fill(chosen, int(quotas[stratum]), self._strata == stratum)
        self._fill(chosen, n_rows - int(self._sizes[chosen].sum()), np.ones(len(chosen), dtype=bool))
        self._free &= ~chosen
        return chosen[self._group_of]

    def rest(self) -> NDArray[np.bool_]:
        """Mark every row that nobody took."""
        return self._free[self._group_of]

    def _fill(self, chosen: NDArray[np.bool_], n_rows: int, allowed: NDArray[np.bool_]) -> None:
        """Choose allowed free groups by lot while they fit into ``n_rows``."""
        left = n_rows
        for group in self._order[(allowed & self._free & ~chosen)[self._order]].tolist():
            if left == 0:
                return
            if self._sizes[group] <= left:
                chosen[group] = True
                left -= int(self._sizes[group])


def _shares(there: NDArray[Any], n_rows: int) -> NDArray[np.int64]:
    """``n_rows`` over strata in proportion to what is ``there``, by largest remainder."""
    exact = there * (n_rows / max(there.sum(), 1))
    shares = np.floor(exact).astype(np.int64)
    missing = int(min(n_rows, there.sum()) - shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    return np.asarray(shares, dtype=np.int64)


def deal(dealer: Dealer, asked: Wanted) -> dict[Outcome, NDArray[np.bool_]]:
    """The rows of each split, as marks."""
    validation = dealer.take(asked.validation)
    test = dealer.take(asked.test)
    train = dealer.rest() if asked.train is None else dealer.take(asked.train)
    return {"train": train, "validation": validation, "test": test}


def require_filled(dealt: dict[Outcome, NDArray[np.bool_]], data: str) -> None:
    """Check that no split that must have rows is empty.

    Raises:
        DataError: a group of near-duplicates is larger than what a split asks for.
    """
    for name in ("train", "validation"):
        if not dealt[name].any():
            raise DataError(
                f"{data}: no group of near-duplicates is small enough for the {name} rows; ask for more of them, raise "
                "split.duplicates.jaccard_threshold, or set split.duplicates.near: drop"
            )
