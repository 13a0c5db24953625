"""The usable rows of all batches by position, and processing in several processes."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from components.errors import DataError
from components.split_data import corpus as module
from components.split_data import process_pool
from components.split_data.corpus import Corpus, require_usable
from tests.components.split_data.corpora import batch_of, config_of, corpus_of, processor_of, talk
from tests.conftest import chat


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """Five rows in three batches of two files; the second batch has none."""
    batches = [
        batch_of([talk(1), {"no": 1}, talk(2)], file="a.jsonl"),
        batch_of([{"no": 2}], file="b.jsonl", source=1),
        batch_of([talk(3), talk(4), talk(5, 30)], file="b.jsonl", source=1),
    ]
    return corpus_of(tmp_path, batches)


def test_positions_go_over_all_batches(corpus):
    assert len(corpus) == 5
    assert corpus.n_read == 7
    assert corpus.first_rows.tolist() == [0, 2, 2, 5]
    assert corpus.source_of.tolist() == [0, 0, 1, 1, 1]
    assert corpus.n_words.tolist() == [60, 60, 60, 60, 30]
    assert corpus.n_shingles.tolist() == [58, 58, 58, 58, 28]
    assert len(set(corpus.keys())) == 5
    assert corpus.band_hashes().shape[0] == 5


def test_every_row_has_its_file_and_line(corpus):
    locations = [corpus.location(row) for row in range(5)]
    assert locations == [("a.jsonl", 1), ("a.jsonl", 3), ("b.jsonl", 1), ("b.jsonl", 2), ("b.jsonl", 3)]
    assert corpus.describe(1) == "a.jsonl line 3"


def test_one_file_is_not_named(tmp_path):
    assert corpus_of(tmp_path, [batch_of([talk(1)])]).describe(0) == "line 1"


def test_rows_are_read_again_by_position_across_batches(corpus):
    rows = corpus.rows(np.array([1, 2, 4]))
    assert [row.messages[0].content for row in rows] == [talk(seed)["messages"][0]["content"] for seed in (2, 3, 5)]
    assert [row.id for row in rows] == [corpus.ids[1], corpus.ids[2], corpus.ids[4]]
    assert corpus.rows(np.array([], dtype=np.int64)) == []


def test_shingles_are_those_of_the_row(tmp_path):
    corpus = corpus_of(tmp_path, [batch_of([chat("x", "a b c d")]), batch_of([talk(1), chat("x", "a b c d")])])
    assert corpus.shingles(0).tolist() == corpus.shingles(2).tolist()
    assert corpus.shingles(0).tolist() == sorted(set(corpus.shingles(0).tolist()))
    assert not set(corpus.shingles(1).tolist()) & set(corpus.shingles(0).tolist())


def test_dropped_records_come_with_their_files(corpus):
    assert [(file, row.line) for file, row in corpus.dropped()] == [("a.jsonl", 2), ("b.jsonl", 1)]


def test_tokens_are_none_where_no_bound_needs_them(corpus):
    assert corpus.n_tokens is None


def test_no_record_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl: holds no rows"):
        require_usable(corpus_of(tmp_path, []), "rows.jsonl")


def test_no_usable_row_is_an_error_with_the_first_reason(tmp_path):
    corpus = corpus_of(tmp_path, [batch_of([{"a": 1}, {"b": 1}])])
    with pytest.raises(DataError, match=r"none of its 2 rows can be used; the first, line 1: has no 'messages' key"):
        require_usable(corpus, "rows.jsonl")


def test_progress_is_logged_at_every_so_many_records(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "LOGGED_EVERY", 2)
    caplog.set_level(logging.INFO, logger=module.__name__)
    corpus_of(tmp_path, [batch_of([talk(1)]), batch_of([talk(2), talk(3)]), batch_of([talk(4)])])
    assert [record.getMessage() for record in caplog.records] == ["3 rows processed", "4 rows processed"]


@pytest.mark.parametrize(
    ("cores", "limit", "n"),
    [(4, None, 4), (64, None, process_pool.MAX_PROCESSES), (4, 10**9, 1), (4, 10**6, 1), (4, 13 * 10**8, 2)],
)
def test_processes_are_limited_by_cores_and_memory(monkeypatch, cores, limit, n):
    monkeypatch.setattr(process_pool, "usable_cores", lambda: cores)
    monkeypatch.setattr(process_pool, "memory_limit", lambda: limit)
    assert process_pool.n_usable_processes() == n


def test_one_batch_or_one_core_needs_no_other_process(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(process_pool, "_in_processes", refuse)
    processor = processor_of(tmp_path, config_of())
    for n_processes, n_batches in ((8, 1), (1, 2)):
        monkeypatch.setattr(process_pool, "n_usable_processes", lambda n=n_processes: n)
        batches = [batch_of([talk(seed)]) for seed in range(n_batches)]
        assert len(list(process_pool.process_batches(batches, processor))) == n_batches


def test_several_processes_give_the_batches_in_order(tmp_path, monkeypatch):
    """More batches than are submitted at a time."""
    monkeypatch.setattr(process_pool, "n_usable_processes", lambda: 2)
    processor = processor_of(tmp_path, config_of())
    batches = (batch_of([talk(seed)], file=f"{seed}.jsonl") for seed in range(8))
    parts = list(process_pool.process_batches(batches, processor))
    assert [part.file for part in parts] == [f"{seed}.jsonl" for seed in range(8)]
    assert len({part.rows_path for part in parts}) == 8
