"""Raw records of tables: CSV, and Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from components.errors import DataError
from components.split_data.raw import MAX_ROW_BYTES, RawRecord, encoding_of

DELIMITERS = (",", ";", "\t", "|")
# The first line that Excel may write, which names the delimiter.
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?")
BATCH_ROWS = 1024


def read_csv(path: Path, file: BinaryIO, default: str, names: Collection[str]) -> Iterator[RawRecord]:
    """The rows of a CSV file.

    The delimiter is ``default``, or the first other one with which the header has one of ``names``.

    Raises:
        DataError: it is not text.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    encoding = encoding_of(file)
    reader = csv.DictReader([""])
    try:
        with io.TextIOWrapper(file, encoding=encoding, newline="") as text:
            header, n_before = text.readline(), 0
            if separator := _SEPARATOR_LINE.fullmatch(header):
                default, header, n_before = separator[1], text.readline(), 1
            delimiter = _delimiter(header, default, names)
            reader = csv.DictReader(_with_first(header, text), delimiter=delimiter)
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    # The reader counts a line only once it is parsed.
                    yield RawRecord(n_before + reader.line_num + 1, None, f"not a CSV row ({error})")
                    continue
                line = n_before + reader.line_num
                if None in row or None in row.values():
                    wanted = len(reader.fieldnames or ())
                    yield RawRecord(line, None, f"not as many cells as the header's {wanted}")
                else:
                    yield RawRecord(line, row)
    except UnicodeDecodeError as error:
        kind = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
        raise DataError(f"{path}: not {kind} text (after line {reader.line_num}); save the file as UTF-8") from error


def _with_first(line: str, rest: Iterator[str]) -> Iterator[str]:
    yield line
    yield from rest


def _delimiter(header: str, default: str, names: Collection[str]) -> str:
    for delimiter in (default, *DELIMITERS):
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue  # reading the rows will report it
        if set(cells) & set(names):
            return delimiter
    return default


def read_parquet(path: Path, columns: Collection[str] | None) -> Iterator[RawRecord]:
    """The rows of a Parquet file: the values of ``columns``, None for every other; where it is None, all values.

    Raises:
        DataError: it is no Parquet file, or two of its columns have one name.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pa.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{path}: has the column {twice[0]!r} twice; write it again with one column of each name")
        wanted = [name for name in names if columns is None or name in columns]
        batches = file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
        yield from rows_of(batches, wanted, [name for name in names if name not in wanted])
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file ({error}); write it again") from error


def rows_of(batches: Iterable[Any], wanted: Sequence[str], others: Sequence[str] = ()) -> Iterator[RawRecord]:
    """The rows of Arrow's batches or tables: the values of the columns ``wanted``, None for ``others``.

    Keys without a value are left out: Arrow gives every object of a column the same keys.
    """
    number = 0
    for batch in batches:
        columns = [_values(batch.column(name)) for name in wanted]
        for at in range(batch.num_rows):
            number += 1
            values = {name: column[at] for name, column in zip(wanted, columns, strict=True)}
            broken = next((name for name, value in values.items() if value is _BROKEN), None)
            if broken is None:
                yield RawRecord(number, {**{k: _without_none(v) for k, v in values.items()}, **dict.fromkeys(others)})
            else:
                yield RawRecord(number, None, f"the text of the column {broken!r} is not UTF-8")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value


_BROKEN = object()


def _values(column: Any) -> list[Any]:
    """The values of a column, converted one by one where one of them has no Python equivalent."""
    try:
        values: list[Any] = column.to_pylist()
    except Exception:  # far dates, unknown time zones, text that is not UTF-8: each raises another type
        return [_value(scalar) for scalar in column]
    return values


def _value(scalar: Any) -> Any:
    """A value without the parts that have no Python equivalent, such as a far date; ``_BROKEN`` where that is text."""
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.StructScalar):
        fields = {name: _value(inner) for name, inner in scalar.items()}
        return _BROKEN if _BROKEN in fields.values() else fields
    if isinstance(scalar, pa.ListScalar | pa.LargeListScalar) and not isinstance(scalar, pa.MapScalar):
        items = [_value(inner) for inner in scalar.values]
        return _BROKEN if any(item is _BROKEN for item in items) else items
    try:
        return scalar.as_py()
    except Exception:  # see _values
        is_text = pa.types.is_string(scalar.type) or pa.types.is_large_string(scalar.type)
        return _BROKEN if is_text or pa.types.is_dictionary(scalar.type) else None
