"""What becomes of each usable row, decided step by step: equal rows, near-duplicates, perplexity, the deal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.split_data.accounts import OUTCOMES, Account
from components.split_data.config import SplitConfig
from components.split_data.deal import Dealer, deal, draw, mixed, require_filled, wanted
from components.split_data.near_duplicates import Groups, near_pairs
from components.split_data.perplexity import perplexities
from components.split_data.survey import Survey

log = logging.getLogger(__name__)

OPEN = -1


@dataclass
class Fates:
    """The fate of each row of ``found``, by position."""

    found: Survey
    outcome: NDArray[np.int8] = field(init=False)  # an index into OUTCOMES, or OPEN
    reasons: dict[int, tuple[str, str]] = field(init=False, default_factory=dict)
    groups: NDArray[np.int64] = field(init=False)  # the first row that a row nearly repeats, itself for most

    def __post_init__(self) -> None:
        self.outcome = np.full(len(self.found), OPEN, dtype=np.int8)
        self.groups = np.arange(len(self.found))

    def open_rows(self) -> NDArray[np.int64]:
        """The rows that nothing was decided of."""
        return np.flatnonzero(self.outcome == OPEN)

    def drop(self, row: int, kind: str, reason: str) -> None:
        """Leave a row out of every split."""
        self.outcome[row] = OUTCOMES.index("dropped")
        self.reasons[row] = (kind, reason)

    def accounts(self) -> Iterator[Account]:
        """One account a record that was read, in the order of the data."""
        in_groups = np.bincount(self.groups, minlength=len(self.groups)) > 1
        for part, first in zip(self.found.parts, self.found.first_rows, strict=False):
            own = [
                Account(part.file, lost.line, "dropped", kind=lost.kind, reason=lost.reason) for lost in part.dropped
            ]
            for row, (line, identity) in enumerate(zip(part.lines.tolist(), part.ids, strict=True), start=int(first)):
                kind, reason = self.reasons.get(row, ("", ""))
                group = self.found.where(int(self.groups[row])) if in_groups[self.groups[row]] else ""
                own.append(Account(part.file, line, OUTCOMES[self.outcome[row]], kind, reason, identity, group))
            yield from sorted(own, key=lambda account: account.line)


def drop_equal(fates: Fates) -> None:
    """Drop each row that an earlier one equals but for case and white space."""
    seen: dict[bytes, int] = {}
    for row, key in enumerate(fates.found.keys()):
        if (first := seen.setdefault(key, row)) != row:
            fates.drop(row, "exact duplicate", f"the same conversation as {fates.found.where(first)}")


def find_near(fates: Fates, config: SplitConfig) -> None:
    """Join near-duplicates into groups, or drop all but the first, as ``config`` says."""
    if config.duplicates.near == "keep":
        return
    dropping = config.duplicates.near == "drop"
    found, rows = fates.found, fates.open_rows()
    pairs = near_pairs(
        found.marks()[rows],
        found.n_shingles[rows],
        lambda at: found.shingles(int(rows[at])),
        config.duplicates.jaccard_threshold,
        every=dropping,
    )
    groups = Groups(len(rows))
    nearest: dict[int, list[tuple[int, float]]] = {}
    for pair in pairs:
        groups.join(pair.first, pair.second)
        nearest.setdefault(pair.second, []).append((pair.first, pair.jaccard))
    fates.groups[rows] = rows[[groups.root(at) for at in range(len(rows))]]
    if dropping:
        _drop_near(fates, rows, nearest)


def _drop_near(fates: Fates, rows: NDArray[np.int64], nearest: dict[int, list[tuple[int, float]]]) -> None:
    dropped: set[int] = set()
    for second in sorted(nearest):
        kept = [(first, jaccard) for first, jaccard in nearest[second] if first not in dropped]
        if kept:
            first, jaccard = max(kept, key=lambda item: item[1])
            place = fates.found.where(int(rows[first]))
            fates.drop(int(rows[second]), "near-duplicate", f"{100 * jaccard:.0f} % the same as {place}")
            dropped.add(second)


def bound_perplexity(fates: Fates, config: SplitConfig) -> None:
    """Drop the rows whose answers the base model finds too likely or too unlikely.

    Raises:
        DataError: torch is not installed here.
    """
    low, high = config.quality.min_perplexity, config.quality.max_perplexity
    if not config.quality.measures_perplexity:
        return
    assert config.base_model is not None  # the recipe is resolved
    open_rows = fates.open_rows()
    values = perplexities(config.base_model, fates.found.rows(open_rows))
    for row, value in zip(open_rows.tolist(), values, strict=True):
        if low is not None and value < low:
            fates.drop(row, "perplexity too low", f"perplexity {value:.2f}, below min_perplexity {low:g}")
        elif high is not None and value > high:
            fates.drop(row, "perplexity too high", f"perplexity {value:.1f}, above max_perplexity {high:g}")


def deal_out(fates: Fates, config: SplitConfig, data: str) -> None:
    """Deal the rows that are left out to the splits.

    Raises:
        DataError: they are fewer than the splits ask for, or their groups are too large.
    """
    found, rows = fates.found, fates.open_rows()
    draws = np.array([draw(found.ids[row], config.seed) for row in rows], dtype=np.uint64)
    in_mix = mixed(config.all_sources, found.source_of[rows], draws)
    fates.outcome[rows] = OUTCOMES.index("unused")
    for row in rows[~in_mix].tolist():
        fates.reasons[row] = ("weight", "the source's weight leaves it out")
    rows, draws = rows[in_mix], draws[in_mix]
    asked = wanted(config, len(rows))
    if len(rows) < asked.total:
        train = "at least 1" if asked.train is None else str(asked.train)
        raise DataError(
            f"{data}: the split asks for {asked.total} rows (train {train}, validation {asked.validation}, "
            f"test {asked.test}), but only {len(rows)} of {found.n_read} rows can be used; ask for fewer or add data"
        )
    dealt = deal(Dealer(fates.groups[rows], found.n_words[rows], draws), asked)
    require_filled(dealt, data)
    for name, marks in dealt.items():
        fates.outcome[rows[marks]] = OUTCOMES.index(name)
    for name, n_asked in (("train", asked.train or 0), ("validation", asked.validation), ("test", asked.test)):
        if (n_given := int(dealt[name].sum())) < n_asked:
            log.warning(
                "%s has %d rows, not %d: near-duplicates stay together, and no group fits the rest",
                name,
                n_given,
                n_asked,
            )
