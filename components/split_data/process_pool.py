"""Process batches in processes of their own, a few at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice

from components.runtime.cores import usable_cores
from components.runtime.memory import memory_limit
from components.split_data.batch_processor import BatchProcessor, ProcessedBatch
from components.split_data.sources import Batch

# Starting processes costs about a second; a process takes 200 to 500 MB, with the tokenizer's vocabulary.
MAX_PROCESSES = 8
BYTES_PER_PROCESS = 600_000_000


def process_batches(batches: Iterable[Batch], processor: BatchProcessor) -> Iterator[ProcessedBatch]:
    """Each batch processed, in order; a single one in this process."""
    batches = iter(batches)
    first = list(islice(batches, 2))
    numbered = enumerate(chain(first, batches))
    n_processes = n_usable_processes()
    if len(first) == 2 and n_processes > 1:
        yield from _in_processes(numbered, processor, n_processes)
    else:
        yield from (processor.process(number, batch) for number, batch in numbered)


def n_usable_processes() -> int:
    """Processes for which there are cores and memory."""
    limit = memory_limit()
    n_in_memory = MAX_PROCESSES if limit is None else max(limit // BYTES_PER_PROCESS, 1)
    return min(usable_cores(), MAX_PROCESSES, n_in_memory)


def _in_processes(
    batches: Iterable[tuple[int, Batch]], processor: BatchProcessor, n_processes: int
) -> Iterator[ProcessedBatch]:
    # Few batches are submitted ahead, so that the data is never in memory whole.
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    with ProcessPoolExecutor(n_processes, context, _initialize, (processor,)) as pool:
        pending: deque[Future[ProcessedBatch]] = deque()
        try:
            for number, batch in batches:
                pending.append(pool.submit(_process, number, batch))
                if len(pending) > 2 * n_processes:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


_processor: BatchProcessor | None = None


def _initialize(processor: BatchProcessor) -> None:
    global _processor
    _processor = processor
    # One process is one core's work.
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _process(number: int, batch: Batch) -> ProcessedBatch:
    assert _processor is not None
    return _processor.process(number, batch)
