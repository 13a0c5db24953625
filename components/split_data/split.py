"""Split chat data into train, validation and test rows, and write the outcome of every record."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from components.artifacts.contracts import Row
from components.artifacts.rows import RowWriter
from components.split_data.assignments import (
    Assignments,
    assign_splits,
    drop_by_perplexity,
    drop_exact_duplicates,
    group_near_duplicates,
)
from components.split_data.batch_processor import BatchProcessor
from components.split_data.config import SplitConfig
from components.split_data.corpus import read_corpus, require_usable
from components.split_data.decontamination import ContaminationIndex, build_index
from components.split_data.near_duplicates import bands_for
from components.split_data.outcomes import OUTCOMES, SPLITS
from components.split_data.report import write_page
from components.split_data.sources import Batch, read_batches
from components.split_data.summary import summarize

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitOutputs:
    """The paths of the files that a split writes."""

    train: str
    validation: str
    test: str
    report: str
    summary: str
    outcomes: str


def split(config: SplitConfig, outputs: SplitOutputs) -> dict[str, int]:
    """Write three Parquet files, the report as HTML and JSON, and the row outcomes (JSON lines); return the counts.

    No row is in two splits, nor are two near-duplicates; of a family of more than 4,000 rows that nearly repeat each
    other, some may be.

    Raises:
        DataError: no usable row, fewer than the splits ask for, or data that cannot be read.
        StoreError: a bucket refuses.
    """
    counts = split_batches(config, read_batches(config.all_sources), outputs)
    log.info(
        "read %(read)d rows: train %(train)d, validation %(validation)d, test %(test)d, "
        "unused %(unused)d, dropped %(dropped)d",
        counts,
    )
    return counts


def split_batches(config: SplitConfig, batches: Iterable[Batch], outputs: SplitOutputs) -> dict[str, int]:
    """As ``split``, of batches that were read elsewhere."""
    with tempfile.TemporaryDirectory(prefix="lorry-split-") as folder:
        index = build_index(config.decontamination)
        assignments = _assign(config, batches, index, Path(folder))
        _write_rows(assignments, outputs)
        counts = _write_outcomes(assignments, outputs.outcomes)
        summary = summarize(assignments, config, counts, index)
    Path(outputs.summary).write_text(summary.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_page(outputs.report, summary)
    return counts


def dry_run(config: SplitConfig) -> None:
    """Split without writing anything.

    Raises:
        DataError: see ``split``.
    """
    with tempfile.TemporaryDirectory(prefix="lorry-split-") as folder:
        _assign(config, read_batches(config.all_sources), build_index(config.decontamination), Path(folder))


def rows_of_splits(config: SplitConfig, batches: Iterable[Batch]) -> dict[str, list[Row]]:
    """The rows of each split by its name, in memory; nothing is written.

    Raises:
        DataError: see ``split``.
    """
    with tempfile.TemporaryDirectory(prefix="lorry-split-") as folder:
        assignments = _assign(config, batches, build_index(config.decontamination), Path(folder))
        return {
            name: assignments.corpus.rows(np.flatnonzero(assignments.outcome == OUTCOMES.index(name)))
            for name in SPLITS
        }


def _assign(config: SplitConfig, batches: Iterable[Batch], index: ContaminationIndex, folder: Path) -> Assignments:
    """The outcome of every row; ``folder`` holds the rows meanwhile."""
    data = " + ".join(source.data for source in config.all_sources)
    processor = BatchProcessor(config, index, bands_for(config.duplicates.jaccard_threshold), folder)
    corpus = read_corpus(batches, processor)
    require_usable(corpus, data)
    if corpus.n_moved_system:
        log.info(
            "the chat template has no system role: in %d rows the system text begins the first user turn",
            corpus.n_moved_system,
        )
    assignments = Assignments(corpus)
    drop_exact_duplicates(assignments)
    group_near_duplicates(assignments, config)
    drop_by_perplexity(assignments, config)
    assign_splits(assignments, config, data)
    return assignments


def _write_rows(assignments: Assignments, outputs: SplitOutputs) -> None:
    """Write the rows of each split, in the order of the data."""
    paths = [getattr(outputs, name) for name in SPLITS]
    corpus = assignments.corpus
    with RowWriter(paths[0]) as train, RowWriter(paths[1]) as validation, RowWriter(paths[2]) as test:
        for part, first in zip(corpus.parts, corpus.first_rows, strict=False):
            own = assignments.outcome[first : first + len(part.ids)]
            for name, writer in zip(SPLITS, (train, validation, test), strict=True):
                writer.copy(str(part.rows_path), own == OUTCOMES.index(name))


def _write_outcomes(assignments: Assignments, path: str) -> dict[str, int]:
    """Write one JSON line a record; return the count of each outcome, which add up to the records read."""
    counts: Counter[str] = Counter()
    with open(path, "w", encoding="utf-8") as file:
        for row in assignments.row_outcomes():
            counts[row.outcome] += 1
            entry = {key: value for key, value in asdict(row).items() if value != ""}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return {"read": counts.total(), **{name: counts[name] for name in OUTCOMES}}
