"""Raw records of one data file, by the suffix of its name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import DataError
from components.split_data.raw import MAX_ROW_BYTES
from components.split_data.records import COLUMNS, COMPRESSIONS, DATA_SUFFIXES, is_data_file, records_of

ROWS = [{"prompt": "a é", "completion": "b"}, {"prompt": "c", "completion": "d"}]


def values(path: Path) -> list[Any]:
    return [record.read() for record in records_of(path)]


def json_lines(rows: list[Any] = ROWS, ending: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + ending for row in rows)


CONTENTS = {
    ".jsonl": json_lines(),
    ".ndjson": json_lines(),
    ".json": json.dumps(ROWS),
    ".csv": "prompt,completion\na é,b\nc,d\n",
    ".tsv": "prompt\tcompletion\na é\tb\nc\td\n",
}


def write(folder: Path, suffix: str) -> Path:
    """A file of ``ROWS`` with one of ``DATA_SUFFIXES``."""
    path = folder / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    kind = next(kind for kind in CONTENTS if suffix.startswith(kind) and suffix[len(kind) :] in ("", *COMPRESSIONS))
    with pa.output_stream(str(path), compression=COMPRESSIONS.get(suffix[len(kind) :])) as file:
        file.write(CONTENTS[kind].encode())
    return path


@pytest.mark.parametrize("suffix", DATA_SUFFIXES)
def test_every_suffix_gives_the_same_values(tmp_path, suffix):
    assert values(write(tmp_path, suffix)) == ROWS


@pytest.mark.parametrize("suffix", [".jsonl", ".csv.gz", ".json"])
def test_the_case_of_a_suffix_does_not_count(tmp_path, suffix):
    path = write(tmp_path, suffix)
    assert values(path.rename(tmp_path / path.name.upper())) == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "s3://b/A.CSV", "a.tsv.zst"])
def test_data_files_are_known_by_their_suffix(name):
    assert is_data_file(name)


@pytest.mark.parametrize("name", ["a.txt", "a.parquet.gz", "owner/name", "a.gz", "jsonl", ""])
def test_other_names_are_no_data_files(name):
    assert not is_data_file(name)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_json_lines_are_read_in_each_encoding(tmp_path, encoding, ending):
    (tmp_path / "rows.jsonl").write_bytes(json_lines(ending=ending).encode(encoding))
    assert values(tmp_path / "rows.jsonl") == ROWS


def test_empty_lines_count_and_are_no_records(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n1\n  \n2\n3")
    assert [(record.line, record.read()) for record in records_of(tmp_path / "rows.jsonl")] == [(2, 1), (4, 2), (5, 3)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_that_is_too_long_is_a_problem_and_the_next_one_is_read(tmp_path, encoding):
    # Three times the longest line, so that it is read in several pieces.
    text = f'1\n"{"x" * 3 * MAX_ROW_BYTES}"\n2\n'
    (tmp_path / "rows.jsonl").write_bytes(text.encode(encoding))
    first, long, last = records_of(tmp_path / "rows.jsonl")
    assert (first.read(), last.line, last.read()) == (1, 3, 2)
    assert long.problem.startswith("3.0 MB long; a row may have 1 MB")


def test_the_longest_line_that_is_allowed_is_read(tmp_path):
    text = "x" * (MAX_ROW_BYTES - 3)
    (tmp_path / "rows.jsonl").write_text(f'"{text}"\n')
    assert values(tmp_path / "rows.jsonl") == [text]


def test_a_file_that_ends_within_a_character_loses_only_its_last_line(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"".join([json_lines().encode("utf-16"), "1\n".encode("utf-16-le")[:-1]]))
    *good, broken = records_of(tmp_path / "rows.jsonl")
    assert [record.read() for record in good] == ROWS
    with pytest.raises(ValueError, match="not UTF-8 text"):
        broken.read()


def test_a_lone_surrogate_in_utf_16_is_its_lines_problem(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes('"a"\n"\ud83d"\n"b"\n'.encode("utf-16", "surrogatepass"))
    first, broken, last = records_of(tmp_path / "rows.jsonl")
    assert (first.read(), last.read()) == ("a", "b")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        broken.read()


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b'{"a": 1}', "holds a JSON dict, but must hold a list"),
        (b'{"a": 1}\n{"a": 2}', "line 2 is not JSON (Extra data at column 1); correct it, or name the file .jsonl"),
        (b'["\xff"]', "not UTF-8 text (byte 3)"),
        (b"[" * 100_000, "JSON that cannot be read"),
    ],
)
def test_a_json_file_that_is_not_a_list_is_an_error(tmp_path, content, fact):
    (tmp_path / "rows.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(records_of(tmp_path / "rows.json"))
    assert str(caught.value).startswith(f"{tmp_path / 'rows.json'}: ")
    assert fact in str(caught.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b'{"a": 1}\n' * 999, mtime=0)[:30]])
def test_a_compressed_file_that_is_damaged_is_an_error(tmp_path, content):
    (tmp_path / "rows.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz: cannot be read or unpacked"):
        list(records_of(tmp_path / "rows.jsonl.gz"))


def test_of_a_table_only_the_columns_of_conversations_are_read_unless_every_one_is_wanted(tmp_path):
    pq.write_table(pa.table({"prompt": ["a"], "score": [5]}), tmp_path / "rows.parquet")
    (record,) = records_of(tmp_path / "rows.parquet")
    assert record.value == {"prompt": "a", "score": None}
    (record,) = records_of(tmp_path / "rows.parquet", every_column=True)
    assert record.value == {"prompt": "a", "score": 5}
    assert "prompt" in COLUMNS
