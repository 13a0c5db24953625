"""Reading chat data: files and folders of this machine, buckets, data sets of the hub, in batches of raw records."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from components.digest import sha256_of, sha256_of_all
from components.errors import DataError
from components.inputs import local_file, local_folder
from components.split_data.config import Form, Source
from components.split_data.forms import usual_form

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
# Every ending of a data file's name; Parquet compresses by itself.
DATA_SUFFIXES = (*FILE_SUFFIXES, *(f"{kind}{packed}" for kind in FILE_SUFFIXES[:3] for packed in COMPRESSIONS))
PATTERNS = tuple(f"*{suffix}" for suffix in DATA_SUFFIXES)
# No conversation that anybody trains on is longer; a line without an end must not fill the memory.
MAX_ROW_BYTES = 1_000_000
BATCH_ROWS = 2_000
ROWS_LOOKED_AT = 100


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


@dataclass(frozen=True)
class Batch:
    """Records of one file (or hub data set), and the form that its rows are in."""

    source: int
    file: str
    form: Form
    records: Sequence[RawRecord]


def is_data_file(address: str) -> bool:
    """True for an address that ends like a data file."""
    return address.endswith(DATA_SUFFIXES)


def data_files(folder: Path) -> list[Path]:
    """The data files of a folder, by name; folders within it are left alone."""
    return sorted(path for path in folder.iterdir() if path.is_file() and is_data_file(path.name))


def data_folder_revision(folder: Path) -> str:
    """A sha256 over the names and contents of a folder's data files."""
    return sha256_of_all(data_files(folder))


def read_batches(sources: Sequence[Source]) -> Iterator[Batch]:
    """The first ``limit`` records of each source, in order.

    Raises:
        DataError: the data is not there, is empty, is of an unknown form, or changed since the recipe was resolved.
    """
    for number, source in enumerate(sources):
        records = islice(_read(source), source.limit)
        first = list(islice(records, ROWS_LOOKED_AT))
        form = source.form or usual_form(filter(None, map(_peek, (record for _, record in first)))) or "messages"
        yield from _in_batches(number, form, chain(first, records))


def _in_batches(source: int, form: Form, records: Iterable[tuple[str, RawRecord]]) -> Iterator[Batch]:
    batch: list[RawRecord] = []
    here = ""
    for file, record in records:
        if batch and (file != here or len(batch) == BATCH_ROWS):
            yield Batch(source, here, form, batch)
            batch = []
        here = file
        batch.append(record)
    if batch:
        yield Batch(source, here, form, batch)


def _peek(record: RawRecord) -> Any:
    try:
        return record.read()
    except ValueError:
        return None


def _read(source: Source) -> Iterator[tuple[str, RawRecord]]:
    """Each record with the name of what it is in."""
    for path in local_data(source.data, source.data_revision) or ():
        yield from ((path.name, record) for record in records_of(path))
    if not is_data_file(source.data) and not _is_folder(source.data):
        yield from ((source.data, record) for record in _read_hub(source))


def _is_folder(address: str) -> bool:
    # A hub id stays one, whatever lies where the step runs.
    return "://" in address or (Path(address).is_absolute() and Path(address).is_dir())


def local_data(address: str, revision: str | None) -> list[Path] | None:
    """The data files at ``address`` on this machine, whose digest must be ``revision``; None for a hub id.

    Raises:
        DataError: they are not there, or changed since the recipe was resolved.
        StoreError: the bucket refuses.
    """
    if is_data_file(address):
        path = local_file(address, revision)
        if not path.is_file():
            raise DataError(f"{path}: no such file; give the path of a {', '.join(FILE_SUFFIXES)} file in split.data")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; it must hold at least one conversation")
        if revision is not None and sha256_of(path) != revision:
            raise DataError(f"{path}: the file changed while the run was going on; run again to use the new content")
        return [path]
    if not _is_folder(address):
        return None
    if revision is None and "://" not in address:
        folder = Path(address)
    else:
        folder = local_folder(address, str(revision), PATTERNS, data_folder_revision)
    files = data_files(folder)
    if not files:
        raise DataError(
            f"{address}: the folder holds no {', '.join(FILE_SUFFIXES)} file; name the folder with the data"
        )
    return files


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


def _read_hub(source: Source) -> Iterator[RawRecord]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    # Slicing here keeps a limited run from reading the rest.
    wanted = source.data_split if source.limit is None else f"{source.data_split}[:{source.limit}]"
    try:
        rows = load_dataset(source.data, revision=source.data_revision, split=wanted)
    except (DatasetNotFoundError, ConnectionError, ValueError, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(
            f"{source.data}: neither a {', '.join(FILE_SUFFIXES)} file nor a data set that the hub gives "
            f"({first_line}); check split.data and split.data_split"
        ) from error
    return (RawRecord(number, row) for number, row in enumerate(rows, start=1))
