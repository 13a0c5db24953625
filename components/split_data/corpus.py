"""Read and process every record of the data: the usable rows as arrays, and the records that were dropped."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from components.artifacts.contracts import Row
from components.artifacts.rows import read_rows
from components.errors import DataError
from components.split_data.batch_processor import BatchProcessor, ProcessedBatch
from components.split_data.outcomes import DroppedRow
from components.split_data.process_pool import process_batches
from components.split_data.sources import BATCH_ROWS, Batch

log = logging.getLogger(__name__)

LOGGED_EVERY = 50 * BATCH_ROWS  # records


@dataclass
class Corpus:
    """The usable rows, by position in the order of the data. Arrays have one entry a row."""

    parts: list[ProcessedBatch]
    n_read: int
    first_rows: NDArray[np.int64] = field(init=False)  # (parts + 1,), the position of each part's first row
    ids: list[str] = field(init=False)
    source_of: NDArray[np.int64] = field(init=False)
    n_words: NDArray[np.int64] = field(init=False)
    n_tokens: NDArray[np.int64] | None = field(init=False)
    n_shingles: NDArray[np.int64] = field(init=False)
    n_files: int = field(init=False)
    n_moved_system: int = field(init=False)

    def __post_init__(self) -> None:
        counts = [len(part.ids) for part in self.parts]
        self.first_rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.ids = [row_id for part in self.parts for row_id in part.ids]
        self.source_of = np.repeat(np.array([part.source for part in self.parts], dtype=np.int64), counts)
        self.n_words = _concatenated([part.n_words for part in self.parts])
        tokens = [part.n_tokens for part in self.parts if part.n_tokens is not None]
        self.n_tokens = _concatenated(tokens) if tokens else None
        self.n_moved_system = sum(part.n_moved_system for part in self.parts)
        self.n_files = len({part.file for part in self.parts})
        self.n_shingles = _concatenated([np.diff(part.shingle_starts) for part in self.parts])

    def __len__(self) -> int:
        return len(self.ids)

    def keys(self) -> Iterator[bytes]:
        """A key for each row, the same for equal rows."""
        return chain.from_iterable(part.keys for part in self.parts)

    def band_hashes(self) -> NDArray[np.uint64]:
        """The hashes of the MinHash bands, (rows, bands)."""
        return np.concatenate([part.band_hashes for part in self.parts])

    def shingles(self, row: int) -> NDArray[np.uint32]:
        """The distinct shingles of a row, sorted."""
        part, at = self._part_of(row)
        first, last = part.shingle_starts[at : at + 2]
        return np.fromfile(part.shingles_path, dtype=np.uint32, count=last - first, offset=4 * int(first))

    def location(self, row: int) -> tuple[str, int]:
        """The file and line that a row came from."""
        part, at = self._part_of(row)
        return part.file, int(part.lines[at])

    def describe(self, row: int) -> str:
        """A row's location as a text; the file is named where there are several."""
        file, line = self.location(row)
        return f"line {line}" if self.n_files == 1 else f"{file} line {line}"

    def rows(self, rows: NDArray[np.int64]) -> list[Row]:
        """The rows at the positions ``rows``, which ascend, read again from their files."""
        taken = []
        for number, part in enumerate(self.parts):
            first, last = self.first_rows[number : number + 2]
            own = rows[(rows >= first) & (rows < last)] - first
            if len(own):
                of_part = read_rows(str(part.rows_path))
                taken += [of_part[at] for at in own]
        return taken

    def dropped(self) -> Iterator[tuple[str, DroppedRow]]:
        """Each record that could not be used, with its file."""
        return ((part.file, dropped) for part in self.parts for dropped in part.dropped)

    def _part_of(self, row: int) -> tuple[ProcessedBatch, int]:
        """The part that a row is in, and its position there."""
        part = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        return self.parts[part], row - int(self.first_rows[part])


def read_corpus(batches: Iterable[Batch], processor: BatchProcessor) -> Corpus:
    """Process every batch, and join the results."""
    parts, n_read = [], 0
    for part in process_batches(batches, processor):
        parts.append(part)
        before, n_read = n_read, n_read + len(part.ids) + len(part.dropped)
        if n_read // LOGGED_EVERY > before // LOGGED_EVERY:
            log.info("%d rows processed", n_read)
    return Corpus(parts, n_read)


def require_usable(corpus: Corpus, data: str) -> None:
    """Check that there is a row to use.

    Raises:
        DataError: there is none; the message has the first record's reason.
    """
    if corpus.n_read == 0:
        raise DataError(f"{data}: holds no rows; it must hold at least one conversation")
    if not len(corpus):
        _, first = next(corpus.dropped())
        raise DataError(
            f"{data}: none of its {corpus.n_read} rows can be used; the first, line {first.line}: {first.reason}; "
            "each row must be one conversation that ends with the assistant"
        )


def _concatenated(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *arrays])
