"""Reading chat data: files and folders of this machine, buckets, data sets of the hub, in batches of raw records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from components.errors import DataError
from components.split_data.config import Format, Source
from components.split_data.formats import most_common_format
from components.split_data.raw import RawRecord
from components.split_data.records import COLUMNS, DATA_SUFFIXES, FILE_SUFFIXES, is_data_file, records_of
from components.split_data.tables import rows_of
from components.storage.digests import sha256_of, sha256_of_all
from components.storage.local_files import local_file, local_folder

PATTERNS = tuple(f"*{suffix}" for suffix in DATA_SUFFIXES)
BATCH_ROWS = 2_000
ROWS_TO_DETECT_FORMAT = 100


@dataclass(frozen=True)
class Batch:
    """Records of one file (or hub data set), and the format of its rows."""

    source: int
    file: str
    format: Format
    records: Sequence[RawRecord]


def data_files(folder: Path) -> list[Path]:
    """The data files of a folder, by name; folders within it are left alone."""
    return sorted(path for path in folder.iterdir() if path.is_file() and is_data_file(path.name))


def data_folder_revision(folder: Path) -> str:
    """A sha256 over the names and contents of a folder's data files."""
    return sha256_of_all(data_files(folder))


def read_batches(sources: Sequence[Source]) -> Iterator[Batch]:
    """The first ``limit`` records of each source, in order.

    Raises:
        DataError: the data is not there, is empty, is of an unknown format, or changed since the recipe was resolved.
    """
    for number, source in enumerate(sources):
        records = islice(_read(source), source.limit)
        first = list(islice(records, ROWS_TO_DETECT_FORMAT))
        values = filter(None, (_value_or_none(record) for _, record in first))
        format = source.format or most_common_format(values) or "messages"
        yield from _in_batches(number, format, chain(first, records))


def _in_batches(source: int, format: Format, records: Iterable[tuple[str, RawRecord]]) -> Iterator[Batch]:
    batch: list[RawRecord] = []
    batch_file = ""
    for file, record in records:
        if batch and (file != batch_file or len(batch) == BATCH_ROWS):
            yield Batch(source, batch_file, format, batch)
            batch = []
        batch_file = file
        batch.append(record)
    if batch:
        yield Batch(source, batch_file, format, batch)


def _value_or_none(record: RawRecord) -> Any:
    try:
        return record.read()
    except ValueError:
        return None


def _read(source: Source) -> Iterator[tuple[str, RawRecord]]:
    """Each record with the name of its file or hub data set."""
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


def _read_hub(source: Source) -> Iterator[RawRecord]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    # Slicing here keeps a limited run from reading the rest.
    wanted = source.data_split if source.limit is None else f"{source.data_split}[:{source.limit}]"
    try:
        # In Arrow's format no column is decoded that is not needed, such as pictures.
        rows = load_dataset(source.data, revision=source.data_revision, split=wanted).with_format("arrow")
    except (DatasetNotFoundError, ConnectionError, ValueError, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(
            f"{source.data}: neither a {', '.join(FILE_SUFFIXES)} file nor a data set of the hub "
            f"({first_line}); check split.data and split.data_split"
        ) from error
    wanted_columns = [name for name in rows.column_names if name in COLUMNS]
    others = [name for name in rows.column_names if name not in COLUMNS]
    return rows_of(rows.iter(batch_size=BATCH_ROWS), wanted_columns, others)
