"""The lengths of the data, as its splits and the base's tokenizer give them."""

from __future__ import annotations

import pytest

from components.artifacts.contracts import BaseModelRef
from components.errors import DataError, LorryError
from components.modeling.token_loss import Example
from components.split_data.config import SplitConfig
from pipelines.estimate import lengths
from pipelines.estimate.lengths import SplitLengths, SplitSample, read_data
from tests.conftest import chat_rows, write_jsonl


@pytest.fixture
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision="1", weight_bytes=1)


def config(folder, n: int, **settings: object) -> SplitConfig:
    data = write_jsonl(folder / f"{n}.jsonl", chat_rows(n))
    return SplitConfig.model_validate({"data": str(data), "validation_rows": 8, "test_rows": 4, **settings})


def test_every_row_of_small_data_is_counted(tmp_path, base):
    data = read_data(config(tmp_path, 60), base)
    assert [split.n_rows for split in (data.train, data.validation, data.test)] == [48, 8, 4]
    assert (data.n_records, data.read) == (60, "all 48 training rows")
    whole = data.train.cut(512)
    assert whole.n_sequences == len(whole.tokens) == 48
    assert 0 < whole.n_supervised < whole.n_tokens
    assert whole.spread == 0.0


def test_of_many_rows_a_sample_is_counted_and_the_rest_is_as_long(tmp_path, base, monkeypatch):
    every = read_data(config(tmp_path, 61), base).train.cut(512)
    monkeypatch.setattr(lengths, "SAMPLED_ROWS", 20)
    data = read_data(config(tmp_path, 61, seed=0), base)
    lengths._read.cache_clear()
    sampled = read_data(config(tmp_path, 61), base)
    assert sampled.read == "20 of 49 training rows"
    part = sampled.train.cut(512)
    assert (len(part.tokens), part.n_sequences) == (20, 49)
    assert 0 < part.spread < 1
    assert part.n_tokens == pytest.approx(every.n_tokens, rel=part.spread + 0.1)
    assert data.n_records == 61


def test_of_large_data_the_beginning_is_read(tmp_path, base, monkeypatch):
    monkeypatch.setattr(lengths, "MAX_BYTES", 1000)
    monkeypatch.setattr(lengths, "BATCHES_OF_LARGE_DATA", 1)
    monkeypatch.setattr("components.split_data.sources.BATCH_ROWS", 100)
    data = read_data(config(tmp_path, 300), base)
    # The first hundred are shorter than the rest.
    assert data.n_records == pytest.approx(300, rel=0.3)
    assert data.train.n_rows == data.n_records - 12
    assert (data.validation.n_rows, data.test.n_rows) == (8, 4)
    assert data.read.endswith("from the beginning of the data")


def test_a_limit_bounds_the_records_of_large_data(tmp_path, base, monkeypatch):
    monkeypatch.setattr(lengths, "MAX_BYTES", 1000)
    assert read_data(config(tmp_path, 200, limit=120), base).n_records == 120


def test_rows_are_cut_and_those_without_an_answer_left_out():
    long, late = Example([1] * 10, [-100] * 5 + [1] * 5), Example([1] * 10, [-100] * 9 + [1])
    found = SplitSample(200, ((long,), (late,))).cut(8)
    assert found == SplitLengths(100, (8,), (3,))
    assert (found.n_tokens, found.squares) == (800, 6400)


def test_data_that_cannot_be_read_is_named(tmp_path, base, monkeypatch):
    there = SplitConfig.model_validate({"data": "pvc://data/rows.jsonl", "validation_rows": 8})
    with pytest.raises(DataError, match=r"split\.data lies on the volume data, which only the cluster can read"):
        read_data(there, base)
    monkeypatch.setattr(lengths.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LorryError, match=r"transformers is not installed here, .*; run make install"):
        read_data(config(tmp_path, 62), base)
