"""Rows of CSV and Parquet files."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import DataError
from components.split_data.raw import RawRecord
from components.split_data.tables import read_csv, read_parquet, rows_of
from tests.properties import quick

PATH = Path("rows.csv")
NAMES = ("prompt", "completion")


def read(content: bytes, default: str = ",") -> list[RawRecord]:
    return list(read_csv(PATH, io.BufferedReader(io.BytesIO(content)), default, NAMES))


def values(content: bytes, default: str = ",") -> list[Any]:
    return [record.value for record in read(content, default)]


def test_rows_have_their_lines_and_their_cells_by_column():
    records = read(b'prompt,completion\na,"b, ""c"""\n"d\ne",f\ng,h\n')
    assert [(record.line, record.value) for record in records] == [
        (2, {"prompt": "a", "completion": 'b, "c"'}),
        (4, {"prompt": "d\ne", "completion": "f"}),
        (5, {"prompt": "g", "completion": "h"}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_by_which_the_header_has_a_known_column(delimiter):
    content = f"prompt{delimiter}completion\na{delimiter}b\n".encode()
    assert values(content) == [{"prompt": "a", "completion": "b"}]


def test_without_a_known_column_the_default_delimiter_is_used():
    assert values(b"x;y\n1;2\n", default=";") == [{"x": "1", "y": "2"}]


def test_excels_separator_line_names_the_delimiter_and_counts_as_a_line():
    records = read(b"sep=~\r\nprompt~completion\r\na~b\r\nc\r\n")
    assert records[0].value == {"prompt": "a", "completion": "b"}
    assert (records[1].line, records[1].problem) == (4, "not as many cells as the header's 2")


@pytest.mark.parametrize("row", [b"only", b"a,b,c"])
def test_a_row_of_too_few_or_too_many_cells_has_a_problem(row):
    (record,) = read(b"prompt,completion\n" + row + b"\n")
    assert (record.line, record.value, record.problem) == (2, None, "not as many cells as the header's 2")


def test_a_cell_that_is_too_large_is_its_rows_problem():
    records = read(b'prompt,completion\na,"' + b"x" * 1_100_000 + b'"\nb,c\n')
    assert "not a CSV row (field larger than field limit" in records[0].problem
    assert records[1].value == {"prompt": "b", "completion": "c"}


def test_text_that_is_not_utf_8_is_an_error_with_file_and_line():
    with pytest.raises(DataError, match=r"rows\.csv: not UTF-8 text \(after line \d+\); save the file as UTF-8"):
        read(b"prompt,completion\na,b\nc,\xff\n")


def test_an_empty_file_has_no_rows():
    assert read(b"") == []


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1, max_size=10)


@quick
@given(st.lists(st.tuples(cells, cells), max_size=5))
def test_what_pythons_writer_writes_is_read_back(rows):
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(NAMES)
    writer.writerows(rows)
    assert values(file.getvalue().encode()) == [dict(zip(NAMES, row, strict=True)) for row in rows]


def write(folder: Path, table: pa.Table) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(table, path)
    return path


def test_a_parquet_files_wanted_columns_are_read_and_the_others_are_none(tmp_path):
    path = write(tmp_path, pa.table({"prompt": ["a", "b"], "other": [1, 2]}))
    assert [record.value for record in read_parquet(path, {"prompt", "completion"})] == [
        {"prompt": "a", "other": None},
        {"prompt": "b", "other": None},
    ]
    assert [record.value for record in read_parquet(path, None)] == [
        {"prompt": "a", "other": 1},
        {"prompt": "b", "other": 2},
    ]


def test_rows_are_numbered_from_1_across_batches():
    batches = [pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": [3]})]
    assert [(record.line, record.value["a"]) for record in rows_of(batches, ["a"])] == [(1, 1), (2, 2), (3, 3)]


def test_a_column_twice_is_an_error_with_its_name(tmp_path):
    path = write(tmp_path, pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"]))
    with pytest.raises(DataError, match="has the column 'prompt' twice"):
        list(read_parquet(path, None))


def test_a_file_that_is_not_parquet_is_an_error(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"rows\.parquet: not a Parquet file"):
        list(read_parquet(tmp_path / "rows.parquet", None))


def test_keys_that_a_row_does_not_have_are_left_out_at_every_depth(tmp_path):
    turns = [[{"role": "user", "calls": [{"a": 1}]}, {"role": "tool", "id": "c"}]]
    (record,) = read_parquet(write(tmp_path, pa.table({"messages": turns})), None)
    assert record.value == {"messages": turns[0]}


def broken_text() -> pa.Array:
    """Two texts, the second of which is not UTF-8."""
    offsets = pa.py_buffer(b"".join(i.to_bytes(4, "little") for i in (0, 2, 4)))
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ok\xff\xfe")])


def test_text_that_is_not_utf_8_is_its_rows_problem():
    good, bad = rows_of([pa.record_batch({"prompt": broken_text(), "n": [1, 2]})], ["prompt", "n"])
    assert good.value == {"prompt": "ok", "n": 1}
    assert (bad.line, bad.problem) == (2, "the text of the column 'prompt' is not UTF-8")


@pytest.mark.parametrize("wrap", ["struct", "list"])
def test_broken_text_within_a_value_is_found(wrap):
    inner = broken_text()
    column = (
        pa.StructArray.from_arrays([inner], names=["content"])
        if wrap == "struct"
        else pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), inner)
    )
    good, bad = rows_of([pa.record_batch({"messages": column})], ["messages"])
    assert good.problem is None
    assert bad.problem == "the text of the column 'messages' is not UTF-8"


def test_a_far_date_is_left_out_and_the_rest_of_its_value_is_kept():
    dates = pa.array([date(2020, 1, 1).toordinal() - date(1970, 1, 1).toordinal(), 10**8, None], pa.date32())
    column = pa.StructArray.from_arrays([dates, pa.array(["a", "b", "c"])], names=["when", "text"])
    found = [record.value["m"] for record in rows_of([pa.record_batch({"m": column})], ["m"])]
    assert found == [{"when": date(2020, 1, 1), "text": "a"}, {"text": "b"}, {"text": "c"}]


def test_missing_values_of_a_column_that_needs_conversion_are_none():
    column = pa.array([None, 10**17], pa.timestamp("ms"))
    assert [record.value for record in rows_of([pa.record_batch({"m": column})], ["m"])] == [{"m": None}, {"m": None}]
