"""Assign each usable row an outcome: drop exact duplicates, group near-duplicates, bound perplexity, split the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.split_data.config import SplitConfig
from components.split_data.corpus import Corpus
from components.split_data.near_duplicates import UnionFind, near_pairs
from components.split_data.outcomes import OUTCOMES, RowOutcome
from components.split_data.perplexity import perplexities
from components.split_data.stratified_split import (
    SplitSizes,
    StratifiedSplitter,
    require_not_empty,
    row_hash,
    rows_in_mix,
    split_sizes,
    stratified_split,
)

log = logging.getLogger(__name__)

UNDECIDED = -1


@dataclass
class Assignments:
    """The outcome of each row of ``corpus``, by position."""

    corpus: Corpus
    outcome: NDArray[np.int8] = field(init=False)  # (rows,), an index into OUTCOMES, or UNDECIDED
    groups: NDArray[np.int64] = field(init=False)  # (rows,), position of the first near-duplicate; most rows' own
    reasons: dict[int, tuple[str, str]] = field(init=False, default_factory=dict)  # row: (kind, reason)

    def __post_init__(self) -> None:
        self.outcome = np.full(len(self.corpus), UNDECIDED, dtype=np.int8)
        self.groups = np.arange(len(self.corpus))

    def undecided_rows(self) -> NDArray[np.int64]:
        """Positions of the rows without an outcome."""
        return np.flatnonzero(self.outcome == UNDECIDED)

    def drop(self, row: int, kind: str, reason: str) -> None:
        """Leave a row out of every split."""
        self.outcome[row] = OUTCOMES.index("dropped")
        self.reasons[row] = (kind, reason)

    def row_outcomes(self) -> Iterator[RowOutcome]:
        """One outcome for each record that was read, in the order of the data."""
        in_groups = np.bincount(self.groups, minlength=len(self.groups)) > 1
        for part, first in zip(self.corpus.parts, self.corpus.first_rows, strict=False):
            own = [RowOutcome(part.file, row.line, "dropped", kind=row.kind, reason=row.reason) for row in part.dropped]
            for row, (line, row_id) in enumerate(zip(part.lines.tolist(), part.ids, strict=True), start=int(first)):
                kind, reason = self.reasons.get(row, ("", ""))
                group = self.corpus.describe(int(self.groups[row])) if in_groups[self.groups[row]] else ""
                own.append(RowOutcome(part.file, line, OUTCOMES[self.outcome[row]], kind, reason, row_id, group))
            yield from sorted(own, key=lambda outcome: outcome.line)


def drop_exact_duplicates(assignments: Assignments) -> None:
    """Drop each row that equals an earlier one but for case and white space."""
    seen: dict[bytes, int] = {}
    for row, key in enumerate(assignments.corpus.keys()):
        if (first := seen.setdefault(key, row)) != row:
            reason = f"the same conversation as {assignments.corpus.describe(first)}"
            assignments.drop(row, "exact duplicate", reason)


def group_near_duplicates(assignments: Assignments, config: SplitConfig) -> None:
    """Join near-duplicates into groups, or drop all but the first, as ``config`` says."""
    if config.duplicates.near == "keep":
        return
    dropping = config.duplicates.near == "drop"
    corpus, rows = assignments.corpus, assignments.undecided_rows()
    pairs = near_pairs(
        corpus.band_hashes()[rows],
        corpus.n_shingles[rows],
        lambda at: corpus.shingles(int(rows[at])),
        config.duplicates.jaccard_threshold,
        every=dropping,
    )
    groups = UnionFind(len(rows))
    earlier: dict[int, list[tuple[int, float]]] = {}  # row: earlier rows that it nearly repeats, with the Jaccard
    for pair in pairs:
        groups.union(pair.first, pair.second)
        earlier.setdefault(pair.second, []).append((pair.first, pair.jaccard))
    assignments.groups[rows] = rows[[groups.find(at) for at in range(len(rows))]]
    if dropping:
        _drop_near_duplicates(assignments, rows, earlier)


def _drop_near_duplicates(
    assignments: Assignments, rows: NDArray[np.int64], earlier: dict[int, list[tuple[int, float]]]
) -> None:
    dropped: set[int] = set()
    for second in sorted(earlier):
        kept = [(first, jaccard) for first, jaccard in earlier[second] if first not in dropped]
        if kept:
            first, jaccard = max(kept, key=lambda item: item[1])
            same_as = assignments.corpus.describe(int(rows[first]))
            assignments.drop(int(rows[second]), "near-duplicate", f"{100 * jaccard:.0f} % the same as {same_as}")
            dropped.add(second)


def drop_by_perplexity(assignments: Assignments, config: SplitConfig) -> None:
    """Drop the rows whose answers the base model finds too likely or too unlikely.

    Raises:
        DataError: torch is not installed here.
    """
    low, high = config.quality.min_perplexity, config.quality.max_perplexity
    if not config.quality.measures_perplexity:
        return
    assert config.base_model is not None  # the recipe is resolved
    rows = assignments.undecided_rows()
    values = perplexities(config.base_model, assignments.corpus.rows(rows))
    for row, value in zip(rows.tolist(), values, strict=True):
        if low is not None and value < low:
            assignments.drop(row, "perplexity too low", f"perplexity {value:.2f}, below min_perplexity {low:g}")
        elif high is not None and value > high:
            assignments.drop(row, "perplexity too high", f"perplexity {value:.1f}, above max_perplexity {high:g}")


def assign_splits(assignments: Assignments, config: SplitConfig, data: str) -> None:
    """Assign the undecided rows to the splits; those that no split takes are unused.

    Raises:
        DataError: they are fewer than the splits ask for, or their groups are too large.
    """
    corpus, rows = assignments.corpus, assignments.undecided_rows()
    hashes = np.array([row_hash(corpus.ids[row], config.seed) for row in rows], dtype=np.uint64)
    in_mix = rows_in_mix(config.all_sources, corpus.source_of[rows], hashes)
    assignments.outcome[rows] = OUTCOMES.index("unused")
    for row in rows[~in_mix].tolist():
        assignments.reasons[row] = ("weight", "the source's weight leaves it out")
    rows, hashes = rows[in_mix], hashes[in_mix]
    sizes = split_sizes(config, len(rows))
    _require_enough(sizes, len(rows), corpus.n_read, data)
    splitter = StratifiedSplitter(assignments.groups[rows], corpus.n_words[rows], hashes)
    masks = stratified_split(splitter, sizes)
    require_not_empty(masks, data)
    for name, mask in masks.items():
        assignments.outcome[rows[mask]] = OUTCOMES.index(name)
    for name, wanted in (("train", sizes.train or 0), ("validation", sizes.validation), ("test", sizes.test)):
        if (n_rows := int(masks[name].sum())) < wanted:
            log.warning(
                "%s has %d rows, not %d: near-duplicates stay together, and no group fits the rest",
                name,
                n_rows,
                wanted,
            )


def _require_enough(sizes: SplitSizes, n_rows: int, n_read: int, data: str) -> None:
    if n_rows < sizes.total:
        train = "at least 1" if sizes.train is None else str(sizes.train)
        raise DataError(
            f"{data}: the split asks for {sizes.total} rows (train {train}, validation {sizes.validation}, "
            f"test {sizes.test}), but only {n_rows} of {n_read} rows can be used; ask for fewer or add data"
        )
