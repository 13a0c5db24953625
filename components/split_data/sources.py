"""Reading chat data: files of this machine or a data set of the hub, one raw record at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from components.digest import sha256_of
from components.errors import DataError
from components.inputs import local_file
from components.split_data.config import SplitConfig

FILE_SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class RawRecord:
    """One record as it came. ``line`` counts from 1: the line of a JSONL file, else the position of the row."""

    line: int
    value: Any
    problem: str | None = None


def read_records(config: SplitConfig) -> Iterator[RawRecord]:
    """The first ``config.limit`` records of the data, in order.

    Raises:
        DataError: the data is not there, is empty, is of an unknown form, or changed since the recipe was resolved.
    """
    path = local_file(config.data, config.data_revision)
    records = _read_file(path, config.data_revision) if path.suffix in FILE_SUFFIXES else _read_hub(config)
    return islice(records, config.limit)


def _read_file(path: Path, revision: str | None) -> Iterator[RawRecord]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a {', '.join(FILE_SUFFIXES)} file in split.data")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; it must hold at least one conversation")
    if revision is not None and sha256_of(path) != revision:
        raise DataError(f"{path}: the file changed while the run was going on; run again to use the new content")
    if path.suffix == ".jsonl":
        return _read_jsonl(path)
    return _read_json(path) if path.suffix == ".json" else _read_parquet(path)


def _read_jsonl(path: Path) -> Iterator[RawRecord]:
    # Bytes, so that one line of broken UTF-8 is that line's problem and not the file's.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield RawRecord(number, json.loads(line))
            except UnicodeDecodeError as error:
                yield RawRecord(number, None, f"not UTF-8 text (byte {error.start + 1} of the line)")
            except json.JSONDecodeError as error:
                yield RawRecord(number, None, f"not JSON ({error.msg} at column {error.colno})")
            except (ValueError, RecursionError) as error:
                yield RawRecord(number, None, f"JSON that cannot be read ({error})")


def _read_json(path: Path) -> Iterator[RawRecord]:
    try:
        rows = json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start + 1}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno} is not JSON ({error.msg} at column {error.colno}); "
            "mend it, or name the file .jsonl if it has one JSON object a line"
        ) from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a JSON {type(rows).__name__}, but must hold a list of conversations")
    return (RawRecord(number, row) for number, row in enumerate(rows, start=1))


def _read_parquet(path: Path) -> Iterator[RawRecord]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pa.parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error}); write it again") from error
    rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
    return (RawRecord(number, row) for number, row in enumerate(rows, start=1))


def _read_hub(config: SplitConfig) -> Iterator[RawRecord]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    # Slicing here keeps a limited run from reading the rest.
    wanted = config.data_split if config.limit is None else f"{config.data_split}[:{config.limit}]"
    try:
        rows = load_dataset(config.data, revision=config.data_revision, split=wanted)
    except (DatasetNotFoundError, ConnectionError, ValueError, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(
            f"{config.data}: neither a {', '.join(FILE_SUFFIXES)} file nor a data set that the hub gives "
            f"({first_line}); check split.data and split.data_split"
        ) from error
    return (RawRecord(number, row) for number, row in enumerate(rows, start=1))
