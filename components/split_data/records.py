"""Raw records of one data file: JSON lines, JSON, CSV or Parquet, packed or not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from components.errors import DataError

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
# Every ending of a data file's name; Parquet compresses by itself.
DATA_SUFFIXES = (*FILE_SUFFIXES, *(f"{kind}{packed}" for kind in FILE_SUFFIXES[:3] for packed in COMPRESSIONS))
# No conversation that anybody trains on is longer; a line without an end must not fill the memory.
MAX_ROW_BYTES = 1_000_000


@dataclass(frozen=True)
class RawRecord:
    """One record as it came.

    ``line`` counts from 1: the line of a JSONL or CSV file, else the position of the row. Bytes are JSON that nobody
    has read yet.
    """

    line: int
    value: Any
    problem: str | None = None

    def read(self) -> Any:
        """The record's value.

        Raises:
            ValueError: its bytes are not JSON; the message says why.
        """
        if self.problem is not None:
            raise ValueError(self.problem)
        if not isinstance(self.value, bytes):
            return self.value
        try:
            return json.loads(self.value)
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text (byte {error.start + 1} of the line)") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"JSON that cannot be read ({error})") from error


def is_data_file(address: str) -> bool:
    """True for an address that ends like a data file."""
    return address.endswith(DATA_SUFFIXES)


def records_of(path: Path) -> Iterator[RawRecord]:
    """Every record of one data file.

    Raises:
        DataError: the file cannot be read or unpacked.
    """
    name = path.name.removesuffix(next((packed for packed in COMPRESSIONS if path.name.endswith(packed)), ""))
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".csv": _read_csv, ".json": _read_json}
    try:
        yield from readers[Path(name).suffix](path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read or unpacked ({error}); copy or pack the file again") from error


def _open(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked where its name says that it is packed."""
    import pyarrow as pa

    # pyarrow's stream is a raw one in all but its type.
    return io.BufferedReader(cast(io.RawIOBase, pa.input_stream(path, compression="detect", buffer_size=1 << 20)))


def _read_jsonl(path: Path) -> Iterator[RawRecord]:
    # Bytes, so that one line of broken UTF-8 is that line's problem and not the file's.
    with _open(path) as file:
        for number, (line, n_bytes) in enumerate(_lines(file), start=1):
            if n_bytes > MAX_ROW_BYTES:
                yield RawRecord(number, None, too_long(n_bytes))
            elif line.strip():
                yield RawRecord(number, line)


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Each line (of a too long one, the beginning) and its length."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        n_bytes = len(line)
        rest = line
        while len(rest) == MAX_ROW_BYTES + 1 and not rest.endswith(b"\n"):
            rest = file.readline(MAX_ROW_BYTES + 1)
            n_bytes += len(rest)
        yield line, n_bytes


def too_long(n_bytes: int) -> str:
    """Why a row of ``n_bytes`` is dropped."""
    return f"{n_bytes / 1e6:.1f} MB long; a row may have {MAX_ROW_BYTES / 1e6:.0f} MB: cut it into conversations"


def _read_json(path: Path) -> Iterator[RawRecord]:
    try:
        with _open(path) as file:
            rows = json.loads(file.read())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start + 1}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno} is not JSON ({error.msg} at column {error.colno}); "
            "mend it, or name the file .jsonl if it has one JSON object a line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: JSON that cannot be read ({error}); write one JSON object a line (.jsonl)") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a JSON {type(rows).__name__}, but must hold a list of conversations")
    return (RawRecord(number, row) for number, row in enumerate(rows, start=1))


def _read_csv(path: Path) -> Iterator[RawRecord]:
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.DictReader([""])
    try:
        with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    # The reader counts a line when it has understood it.
                    yield RawRecord(reader.line_num + 1, None, f"not a CSV row ({error})")
                    continue
                if None in row or None in row.values():
                    wanted = len(reader.fieldnames or ())
                    yield RawRecord(reader.line_num, None, f"not as many cells as the header's {wanted}")
                else:
                    yield RawRecord(reader.line_num, row)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (after line {reader.line_num}); save the file as UTF-8") from error


def _read_parquet(path: Path) -> Iterator[RawRecord]:
    import pyarrow as pa
    import pyarrow.parquet

    number = 0
    try:
        for batch in pa.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield RawRecord(number, row)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error}); write it again") from error
