"""The split in figures and examples: what the report shows, as a JSON document."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from components.split_data.accounts import OUTCOMES, SPLITS, excerpt_of, shortened
from components.split_data.config import SplitConfig
from components.split_data.fates import Fates
from components.split_data.leaks import LeakIndex

EXAMPLES = 10
LONGEST_GROUPS = 5


class Document(BaseModel):
    """A part of the summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSummary(Document):
    """One source: its address, how many rows were not dropped, and how many went into a split."""

    data: str
    data_revision: str | None
    weight: float | None
    usable: int
    in_splits: int


class Example(Document):
    """A dropped row."""

    file: str
    line: int
    reason: str
    excerpt: str


class DroppedKind(Document):
    """Rows dropped for one kind of reason; the first of them."""

    kind: str
    rows: int
    examples: list[Example]


class NearDuplicates(Document):
    """Groups of near-duplicates, and the rows in them; the largest groups, with their first rows."""

    policy: str
    jaccard_threshold: float
    groups: int
    rows: int
    largest: list[list[Example]]


class Lengths(Document):
    """Rows of each split by length: count i is of rows from ``edges[i]`` up to ``edges[i + 1]``."""

    unit: str
    edges: list[int]
    counts: dict[str, list[int]]
    mean: dict[str, float]
    percentile_95: dict[str, float]


class Summary(Document):
    """What a split did."""

    schema_version: int = 1
    seed: int
    counts: dict[str, int]
    sources: list[SourceSummary]
    dropped: list[DroppedKind]
    near_duplicates: NearDuplicates
    leak_files: list[str]
    leak_texts: Annotated[int, Field(description="texts of those files")]
    leak_texts_too_short: Annotated[list[str], Field(description="texts that give nothing away: not looked for")]
    lengths: Lengths
    moved_system: Annotated[
        int, Field(description="rows whose system text stands in the first user turn: the template has no other place")
    ] = 0


def summary_of(fates: Fates, config: SplitConfig, counts: dict[str, int], leaks: LeakIndex) -> Summary:
    """Put together what the report shows; reads the words of the examples again."""
    return Summary(
        seed=config.seed,
        counts=counts,
        sources=_sources(fates, config),
        dropped=_dropped(fates),
        near_duplicates=_near(fates, config),
        leak_files=config.leaks.files,
        leak_texts=len(leaks.places),
        leak_texts_too_short=[shortened(text) for text in leaks.too_short],
        lengths=_lengths(fates),
        moved_system=fates.found.n_moved_system,
    )


def _in_splits(fates: Fates) -> NDArray[np.bool_]:
    return np.isin(fates.outcome, [OUTCOMES.index(name) for name in SPLITS])


def _sources(fates: Fates, config: SplitConfig) -> list[SourceSummary]:
    n = len(config.all_sources)
    kept = fates.outcome != OUTCOMES.index("dropped")
    usable = np.bincount(fates.found.source_of[kept], minlength=n)
    used = np.bincount(fates.found.source_of[_in_splits(fates)], minlength=n)
    return [
        SourceSummary(
            data=source.data,
            data_revision=source.data_revision,
            weight=source.weight,
            usable=int(usable[i]),
            in_splits=int(used[i]),
        )
        for i, source in enumerate(config.all_sources)
    ]


def _dropped(fates: Fates) -> list[DroppedKind]:
    rows: Counter[str] = Counter()
    examples: dict[str, list[Example]] = {}
    for file, lost in fates.found.dropped():
        rows[lost.kind] += 1
        if len(shown := examples.setdefault(lost.kind, [])) < EXAMPLES:
            shown.append(Example(file=file, line=lost.line, reason=lost.reason, excerpt=lost.excerpt))
    for row in sorted(fates.reasons):
        kind, reason = fates.reasons[row]
        if OUTCOMES[fates.outcome[row]] != "dropped":
            continue
        rows[kind] += 1
        if len(shown := examples.setdefault(kind, [])) < EXAMPLES:
            shown.append(_example(fates, row, reason))
    return [DroppedKind(kind=kind, rows=count, examples=examples[kind]) for kind, count in rows.most_common()]


def _example(fates: Fates, row: int, reason: str) -> Example:
    file, line = fates.found.place(row)
    return Example(
        file=file, line=line, reason=reason, excerpt=excerpt_of(fates.found.rows(np.array([row]))[0].messages)
    )


def _near(fates: Fates, config: SplitConfig) -> NearDuplicates:
    sizes = np.bincount(fates.groups, minlength=len(fates.groups))
    largest = [root for root in np.argsort(-sizes, kind="stable")[:LONGEST_GROUPS].tolist() if sizes[root] > 1]
    return NearDuplicates(
        policy=config.duplicates.near,
        jaccard_threshold=config.duplicates.jaccard_threshold,
        groups=int((sizes > 1).sum()),
        rows=int(sizes[sizes > 1].sum()),
        largest=[
            [
                _example(fates, row, f"one of {sizes[root]} rows")
                for row in np.flatnonzero(fates.groups == root)[:3].tolist()
            ]
            for root in largest
        ],
    )


def _lengths(fates: Fates) -> Lengths:
    tokens = fates.found.n_tokens
    lengths = fates.found.n_words if tokens is None else tokens
    of = {name: lengths[fates.outcome == OUTCOMES.index(name)] for name in SPLITS}
    used = lengths[_in_splits(fates)]
    # Half an octave a bar.
    halves = np.arange(np.floor(2 * np.log2(max(used.min(), 1))), np.floor(2 * np.log2(max(used.max(), 1))) + 2)
    edges = np.unique([*np.floor(2 ** (halves / 2)).astype(int), used.max() + 1])
    return Lengths(
        unit="words" if tokens is None else "tokens",
        edges=[int(edge) for edge in edges],
        counts={name: np.histogram(own, edges)[0].tolist() for name, own in of.items()},
        mean={name: round(float(own.mean()), 1) for name, own in of.items() if len(own)},
        percentile_95={name: float(np.percentile(own, 95).round()) for name, own in of.items() if len(own)},
    )
