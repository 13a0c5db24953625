"""The split in figures and examples: the content of the report, as a JSON document."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from components.split_data.assignments import Assignments
from components.split_data.config import SplitConfig
from components.split_data.decontamination import ContaminationIndex
from components.split_data.outcomes import OUTCOMES, SPLITS, excerpt_of, shorten

MAX_EXAMPLES = 10
LARGEST_GROUPS = 5


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


class ExampleRow(Document):
    """A dropped row."""

    file: str
    line: int
    reason: str
    excerpt: str


class DroppedKind(Document):
    """Rows dropped for one kind of reason; the first of them."""

    kind: str
    rows: int
    examples: list[ExampleRow]


class NearDuplicates(Document):
    """Groups of near-duplicates, and the number of rows in them; the largest groups, with their first rows."""

    policy: str
    jaccard_threshold: float
    groups: int
    rows: int
    largest: list[list[ExampleRow]]


class Lengths(Document):
    """Rows of each split by length: count i is of rows from ``edges[i]`` up to ``edges[i + 1]``."""

    unit: str
    edges: list[int]
    counts: dict[str, list[int]]
    mean: dict[str, float]
    percentile_95: dict[str, float]


class Summary(Document):
    """The result of a split."""

    schema_version: int = 1
    seed: int
    counts: dict[str, int]
    sources: list[SourceSummary]
    dropped: list[DroppedKind]
    near_duplicates: NearDuplicates
    decontamination_files: list[str]
    decontamination_texts: Annotated[int, Field(description="texts of those files")]
    decontamination_texts_too_short: Annotated[
        list[str], Field(description="texts of so few words that they are not searched for")
    ]
    lengths: Lengths
    moved_system: Annotated[
        int, Field(description="rows whose system text begins the first user turn: the template has no system role")
    ] = 0


def summarize(
    assignments: Assignments, config: SplitConfig, counts: dict[str, int], index: ContaminationIndex
) -> Summary:
    """The content of the report; the rows of the examples are read again from their files."""
    return Summary(
        seed=config.seed,
        counts=counts,
        sources=_sources(assignments, config),
        dropped=_dropped(assignments),
        near_duplicates=_near(assignments, config),
        decontamination_files=config.decontamination.files,
        decontamination_texts=len(index.locations),
        decontamination_texts_too_short=[shorten(text) for text in index.too_short],
        lengths=_lengths(assignments),
        moved_system=assignments.corpus.n_moved_system,
    )


def _in_splits(assignments: Assignments) -> NDArray[np.bool_]:
    return np.isin(assignments.outcome, [OUTCOMES.index(name) for name in SPLITS])


def _sources(assignments: Assignments, config: SplitConfig) -> list[SourceSummary]:
    n = len(config.all_sources)
    kept = assignments.outcome != OUTCOMES.index("dropped")
    usable = np.bincount(assignments.corpus.source_of[kept], minlength=n)
    used = np.bincount(assignments.corpus.source_of[_in_splits(assignments)], minlength=n)
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


def _dropped(assignments: Assignments) -> list[DroppedKind]:
    counts: Counter[str] = Counter()
    examples: dict[str, list[ExampleRow]] = {}
    for file, row in assignments.corpus.dropped():
        counts[row.kind] += 1
        if len(shown := examples.setdefault(row.kind, [])) < MAX_EXAMPLES:
            shown.append(ExampleRow(file=file, line=row.line, reason=row.reason, excerpt=row.excerpt))
    for at in sorted(assignments.reasons):
        kind, reason = assignments.reasons[at]
        if OUTCOMES[assignments.outcome[at]] != "dropped":
            continue
        counts[kind] += 1
        if len(shown := examples.setdefault(kind, [])) < MAX_EXAMPLES:
            shown.append(_example(assignments, at, reason))
    return [DroppedKind(kind=kind, rows=count, examples=examples[kind]) for kind, count in counts.most_common()]


def _example(assignments: Assignments, row: int, reason: str) -> ExampleRow:
    file, line = assignments.corpus.location(row)
    return ExampleRow(
        file=file, line=line, reason=reason, excerpt=excerpt_of(assignments.corpus.rows(np.array([row]))[0].messages)
    )


def _near(assignments: Assignments, config: SplitConfig) -> NearDuplicates:
    sizes = np.bincount(assignments.groups, minlength=len(assignments.groups))
    largest = [root for root in np.argsort(-sizes, kind="stable")[:LARGEST_GROUPS].tolist() if sizes[root] > 1]
    return NearDuplicates(
        policy=config.duplicates.near,
        jaccard_threshold=config.duplicates.jaccard_threshold,
        groups=int((sizes > 1).sum()),
        rows=int(sizes[sizes > 1].sum()),
        largest=[
            [
                _example(assignments, row, f"one of {sizes[root]} rows")
                for row in np.flatnonzero(assignments.groups == root)[:3].tolist()
            ]
            for root in largest
        ],
    )


def _lengths(assignments: Assignments) -> Lengths:
    tokens = assignments.corpus.n_tokens
    lengths = assignments.corpus.n_words if tokens is None else tokens
    of = {name: lengths[assignments.outcome == OUTCOMES.index(name)] for name in SPLITS}
    used = lengths[_in_splits(assignments)]
    # The bars are half an octave wide.
    halves = np.arange(np.floor(2 * np.log2(max(used.min(), 1))), np.floor(2 * np.log2(max(used.max(), 1))) + 2)
    edges = np.unique([*np.floor(2 ** (halves / 2)).astype(int), used.max() + 1])
    return Lengths(
        unit="words" if tokens is None else "tokens",
        edges=[int(edge) for edge in edges],
        counts={name: np.histogram(own, edges)[0].tolist() for name, own in of.items()},
        mean={name: round(float(own.mean()), 1) for name, own in of.items() if len(own)},
        percentile_95={name: float(np.percentile(own, 95).round()) for name, own in of.items() if len(own)},
    )
