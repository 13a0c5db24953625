"""Small corpora for the tests of the split's steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from components.split_data import process_pool
from components.split_data.assignments import (
    Assignments,
    assign_splits,
    drop_exact_duplicates,
    group_near_duplicates,
)
from components.split_data.batch_processor import BatchProcessor, ProcessedBatch
from components.split_data.config import SplitConfig
from components.split_data.corpus import Corpus, read_corpus
from components.split_data.decontamination import build_index
from components.split_data.near_duplicates import bands_for
from components.split_data.raw import RawRecord
from components.split_data.sources import Batch
from tests.conftest import chat


def config_of(**settings: Any) -> SplitConfig:
    return SplitConfig.model_validate({"data": "rows.jsonl", "validation_rows": 1, **settings})


def processor_of(folder: Path, config: SplitConfig) -> BatchProcessor:
    folder.mkdir(parents=True, exist_ok=True)
    bands = bands_for(config.duplicates.jaccard_threshold)
    return BatchProcessor(config, build_index(config.decontamination), bands, folder)


def batch_of(values: Sequence[Any], *, file: str = "rows.jsonl", source: int = 0) -> Batch:
    """A batch of the format messages; the values have the lines from 1 on."""
    return Batch(source, file, "messages", [RawRecord(line, value) for line, value in enumerate(values, start=1)])


def processed(folder: Path, values: Sequence[Any], **settings: Any) -> ProcessedBatch:
    return processor_of(folder, config_of(**settings)).process(0, batch_of(values))


def corpus_of(folder: Path, batches: Sequence[Batch], **settings: Any) -> Corpus:
    # Starting processes takes seconds.
    with mock.patch.object(process_pool, "n_usable_processes", return_value=1):
        return read_corpus(batches, processor_of(folder, config_of(**settings)))


def assigned(folder: Path, values: Sequence[Any], **settings: Any) -> Assignments:
    """The outcome of every row of ``values``."""
    config = config_of(**settings)
    assignments = Assignments(corpus_of(folder, [batch_of(values)], **settings))
    drop_exact_duplicates(assignments)
    group_near_duplicates(assignments, config)
    assign_splits(assignments, config, "rows.jsonl")
    return assignments


def prose(n_words: int, seed: int) -> list[str]:
    """Words that no two seeds share in the same order."""
    chance = random.Random(seed)
    return [f"{chance.choice('abcdefghij')}{chance.randrange(10_000)}" for _ in range(n_words)]


def talk(seed: int, n_words: int = 60) -> Any:
    """A conversation that is no near-duplicate of one of another seed."""
    words = prose(n_words, seed)
    return chat(" ".join(words[:20]), " ".join(words[20:]))


def with_changes(row: Any, n_words: int) -> Any:
    """The row with its last words replaced."""
    question, answer = (turn["content"] for turn in row["messages"])
    words = answer.split()
    return chat(question, " ".join([*words[:-n_words], *(f"new{i}" for i in range(n_words))]))
