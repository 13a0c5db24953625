"""Batches of records from files, folders, buckets and hub data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from components.errors import DataError
from components.split_data import sources as module
from components.split_data.config import Source
from components.split_data.sources import Batch, data_files, data_folder_revision, local_data, read_batches
from components.storage.digests import sha256_of
from components.storage.store import Store
from tests.buckets import s3_server
from tests.conftest import chat, write_jsonl

ALPACA = {"instruction": "i", "output": "o"}


def read(*sources: dict[str, Any]) -> list[Batch]:
    return list(read_batches([Source.model_validate(source) for source in sources]))


def lines(batch: Batch) -> list[int]:
    return [record.line for record in batch.records]


def test_batches_end_with_the_file_and_at_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    write_jsonl(tmp_path / "a.jsonl", [chat("q", "a")] * 3)
    write_jsonl(tmp_path / "b.jsonl", [chat("q", "a")])
    assert [(batch.file, lines(batch)) for batch in read({"data": str(tmp_path)})] == [
        ("a.jsonl", [1, 2]),
        ("a.jsonl", [3]),
        ("b.jsonl", [1]),
    ]


def test_every_source_has_its_number_format_and_limit(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", [chat("q", "a")] * 3)
    second = write_jsonl(tmp_path / "b.jsonl", [ALPACA] * 3)
    batches = read({"data": str(first)}, {"data": str(second), "limit": 2})
    assert [(batch.source, batch.format, len(batch.records)) for batch in batches] == [
        (0, "messages", 3),
        (1, "alpaca", 2),
    ]


def test_a_limit_counts_over_the_files_of_a_folder(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        write_jsonl(tmp_path / name, [chat("q", "a")] * 3)
    assert [lines(batch) for batch in read({"data": str(tmp_path), "limit": 4})] == [[1, 2, 3], [1]]


def test_the_format_is_that_of_most_of_the_first_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_TO_DETECT_FORMAT", 3)
    path = write_jsonl(tmp_path / "a.jsonl", ["{broken", ALPACA, ALPACA, *[chat("q", "a")] * 9])
    (batch,) = read({"data": str(path)})
    assert (batch.format, len(batch.records)) == ("alpaca", 12)
    (batch,) = read({"data": str(path), "format": "messages"})
    assert batch.format == "messages"


def test_rows_without_a_format_are_read_as_messages(tmp_path):
    (batch,) = read({"data": str(write_jsonl(tmp_path / "a.jsonl", ["5", "{}"]))})
    assert batch.format == "messages"


def test_a_folders_data_files_are_read_by_name_and_other_files_are_not(tmp_path):
    for name in ("b.jsonl", "a.csv", "README.md", ".hidden.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "inner.jsonl").mkdir()
    assert [path.name for path in data_files(tmp_path)] == ["a.csv", "b.jsonl"]


def test_the_revision_of_a_folder_follows_names_and_contents_of_its_data_files(tmp_path):
    (tmp_path / "a.jsonl").write_text("1\n")
    before = data_folder_revision(tmp_path)
    (tmp_path / "README.md").write_text("not data")
    assert data_folder_revision(tmp_path) == before
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    renamed = data_folder_revision(tmp_path)
    (tmp_path / "b.jsonl").write_text("2\n")
    assert len({before, renamed, data_folder_revision(tmp_path)}) == 3


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [("none.jsonl", None, "no such file; give the path of a .jsonl"), ("a.jsonl", "", "the file is empty")],
)
def test_a_file_that_is_missing_or_empty_is_an_error(tmp_path, name, content, fact):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=fact) as caught:
        local_data(str(tmp_path / name), None)
    assert str(tmp_path / name) in str(caught.value)


def test_a_file_with_another_digest_than_the_recipes_is_an_error(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [1])
    assert local_data(str(path), sha256_of(path)) == [path]
    with pytest.raises(DataError, match=r"a\.jsonl: the file changed while the run was going on; run again"):
        local_data(str(path), "0" * 64)


def test_a_folder_without_data_or_with_another_revision_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"the folder holds no \.jsonl, \.ndjson"):
        local_data(str(tmp_path), None)
    write_jsonl(tmp_path / "a.jsonl", [1])
    with pytest.raises(DataError, match=r"its files have the digest .*, not "):
        local_data(str(tmp_path), "0" * 64)


def test_a_hub_id_is_not_local_even_where_a_folder_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert local_data("owner/name", None) is None


def test_a_file_and_a_folder_of_a_bucket_are_read(tmp_path):
    with s3_server():
        store = Store("s3://lorry/data", create=True)
        content = (json.dumps(chat("q", "a")) + "\n").encode()
        store.put_bytes("rows.jsonl", content)
        (tmp_path / "rows.jsonl").write_bytes(content)
        (batch,) = read({"data": "s3://lorry/data/rows.jsonl"})
        assert [record.read() for record in batch.records] == [chat("q", "a")]
        revision = data_folder_revision(tmp_path)
        (batch,) = read({"data": "s3://lorry/data", "data_revision": revision})
        assert (batch.file, len(batch.records)) == ("rows.jsonl", 1)


class Hub:
    """Stands in for the hub: one data set, and the arguments that it was asked with."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.asked: dict[str, Any] = {}

    def load_dataset(self, name: str, **arguments: Any) -> Any:
        self.asked = {"name": name, **arguments}
        return datasets.Dataset(self.table)


def test_a_hub_data_set_is_read_in_its_revision_up_to_the_limit(monkeypatch):
    hub = Hub(pa.table({"messages": [chat("q", "a")["messages"]] * 2, "when": pa.array([10**17] * 2, "int64")}))
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    source = {"data": "some/set", "data_revision": "abc", "data_split": "valid", "limit": 2}
    (batch,) = read(source)
    assert hub.asked == {"name": "some/set", "revision": "abc", "split": "valid[:2]"}
    assert (batch.file, lines(batch)) == ("some/set", [1, 2])
    assert batch.records[0].value == {"messages": chat("q", "a")["messages"], "when": None}
    read({"data": "some/set"})
    assert hub.asked["split"] == "train"


def test_what_the_hub_refuses_is_an_error_with_its_first_line(monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("\nno such set\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"a/b: neither .* nor a data set of the hub \(no such set\); check split.data"):
        read({"data": "a/b"})


def test_reading_is_lazy(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [chat("q", "a")])
    batches = read_batches([Source(data=str(path)), Source(data=str(tmp_path / "none.jsonl"))])
    assert next(batches).file == Path(path).name
    with pytest.raises(DataError, match=r"none\.jsonl"):
        next(batches)
