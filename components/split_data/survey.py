"""Every record of the data looked at: the usable rows as arrays, what was dropped, and the files with the words."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from components.artifacts.contracts import Row
from components.artifacts.rows import read_rows
from components.errors import DataError
from components.runtime.cores import usable_cores
from components.runtime.memory import memory_limit
from components.split_data.accounts import Dropped
from components.split_data.examine import Examined, Examiner
from components.split_data.sources import BATCH_ROWS, Batch

log = logging.getLogger(__name__)

# Starting processes costs about a second; a process takes 200 to 500 MB, with the tokenizer's vocabulary.
MAX_PROCESSES = 8
BYTES_A_PROCESS = 600_000_000
LOGGED_EVERY = 50 * BATCH_ROWS


@dataclass
class Survey:
    """The usable rows, by position in the order of the data. Arrays have one entry a row."""

    parts: list[Examined]
    n_read: int
    first_rows: NDArray[np.int64] = field(init=False)
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
        self.ids = [identity for part in self.parts for identity in part.ids]
        self.source_of = np.repeat(np.array([part.source for part in self.parts], dtype=np.int64), counts)
        self.n_words = _joined([part.n_words for part in self.parts])
        tokens = [part.n_tokens for part in self.parts if part.n_tokens is not None]
        self.n_tokens = _joined(tokens) if tokens else None
        self.n_moved_system = sum(part.n_moved_system for part in self.parts)
        self.n_files = len({part.file for part in self.parts})
        self.n_shingles = _joined([np.diff(part.shingle_starts) for part in self.parts])

    def __len__(self) -> int:
        return len(self.ids)

    def keys(self) -> Iterator[bytes]:
        """What equal rows share, one a row."""
        return chain.from_iterable(part.keys for part in self.parts)

    def marks(self) -> NDArray[np.uint64]:
        """The band hashes, (rows, bands)."""
        return np.concatenate([part.marks for part in self.parts])

    def shingles(self, row: int) -> NDArray[np.uint32]:
        """The distinct shingles of a row, sorted."""
        part, at = self._place(row)
        first, last = part.shingle_starts[at : at + 2]
        return np.fromfile(part.shingles_path, dtype=np.uint32, count=last - first, offset=4 * int(first))

    def place(self, row: int) -> tuple[str, int]:
        """The file and line that a row came from."""
        part, at = self._place(row)
        return part.file, int(part.lines[at])

    def where(self, row: int) -> str:
        """``place`` in words; the file is named where there are several."""
        file, line = self.place(row)
        return f"line {line}" if self.n_files == 1 else f"{file} line {line}"

    def rows(self, rows: NDArray[np.int64]) -> list[Row]:
        """The messages of the rows at ``rows``, which ascend."""
        taken = []
        for number, part in enumerate(self.parts):
            first, last = self.first_rows[number : number + 2]
            own = rows[(rows >= first) & (rows < last)] - first
            if len(own):
                there = read_rows(str(part.rows_path))
                taken += [there[at] for at in own]
        return taken

    def dropped(self) -> Iterator[tuple[str, Dropped]]:
        """Each record that could not be used, with its file."""
        return ((part.file, dropped) for part in self.parts for dropped in part.dropped)

    def _place(self, row: int) -> tuple[Examined, int]:
        part = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        return self.parts[part], row - int(self.first_rows[part])


def survey(batches: Iterable[Batch], examiner: Examiner) -> Survey:
    """Examine every batch, in processes of their own where there are several."""
    batches = iter(batches)
    first = list(islice(batches, 2))
    in_processes = len(first) == 2 and _n_processes() > 1
    everything = enumerate(chain(first, batches))
    examined = _in_processes(everything, examiner) if in_processes else _here(everything, examiner)
    parts, n_read = [], 0
    for part in examined:
        parts.append(part)
        before, n_read = n_read, n_read + len(part.ids) + len(part.dropped)
        if n_read // LOGGED_EVERY > before // LOGGED_EVERY:
            log.info("%d rows looked at", n_read)
    return Survey(parts, n_read)


def _here(batches: Iterable[tuple[int, Batch]], examiner: Examiner) -> Iterator[Examined]:
    return (examiner.examine(number, batch) for number, batch in batches)


def _in_processes(batches: Iterable[tuple[int, Batch]], examiner: Examiner) -> Iterator[Examined]:
    """As ``_here``, with a few batches under way at a time: the data is never in memory whole."""
    n_processes = _n_processes()
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    with ProcessPoolExecutor(n_processes, context, _begin, (examiner,)) as pool:
        waiting: deque[Future[Examined]] = deque()
        try:
            for number, batch in batches:
                waiting.append(pool.submit(_examine, number, batch))
                if len(waiting) > 2 * n_processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


_examiner: Examiner | None = None


def _begin(examiner: Examiner) -> None:
    global _examiner
    _examiner = examiner
    # One process is one core's work.
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _examine(number: int, batch: Batch) -> Examined:
    assert _examiner is not None
    return _examiner.examine(number, batch)


def _n_processes() -> int:
    limit = memory_limit()
    room = MAX_PROCESSES if limit is None else max(limit // BYTES_A_PROCESS, 1)
    return min(usable_cores(), MAX_PROCESSES, room)


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *arrays])


def require_usable(found: Survey, data: str) -> None:
    """Check that there is a row to use.

    Raises:
        DataError: there is none; the first record's reason is told.
    """
    if found.n_read == 0:
        raise DataError(f"{data}: holds no rows; it must hold at least one conversation")
    if not len(found):
        _, first = next(found.dropped())
        raise DataError(
            f"{data}: none of its {found.n_read} rows can be used; the first, line {first.line}: {first.reason}; "
            "each row must be one conversation that ends with the assistant"
        )
