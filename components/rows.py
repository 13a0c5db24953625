"""Rows on disk: the Parquet files that split_data writes and later parts read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from components.contracts import Message, Row


def row_id(messages: Sequence[Message]) -> str:
    """32 hexadecimal digits of the sha256 over roles and words; white space around a message does not count."""
    digest = hashlib.sha256()
    for message in messages:
        digest.update(f"{message.role}\x1f{message.content.strip()}\x1e".encode())
    return digest.hexdigest()[:32]


def write_rows(rows: Sequence[Row], path: str) -> None:
    """Write ``rows`` as one Parquet file with the columns ``id`` and ``messages`` (a list of role and content)."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.Table.from_pylist([row.model_dump() for row in rows], schema=_schema()), path)


class RowWriter:
    """Writes rows of other such files into one. Use it as a context manager."""

    def __init__(self, path: str) -> None:
        import pyarrow.parquet

        self._writer = pyarrow.parquet.ParquetWriter(path, _schema())

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def copy(self, path: str, marked: Any) -> None:
        """Append the rows of the file at ``path`` that ``marked`` (an array of booleans, one a row) marks."""
        import pyarrow.parquet

        if marked.any():
            self._writer.write_table(pyarrow.parquet.read_table(path).filter(marked))


def _schema() -> Any:
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    return pa.schema([("id", pa.string()), ("messages", pa.list_(message))])


def read_rows(path: str) -> list[Row]:
    """The rows of a file that ``write_rows`` wrote, in order."""
    import pyarrow.parquet

    return [Row.model_validate(row) for row in pyarrow.parquet.read_table(path).to_pylist()]


def data_fingerprint(rows: Sequence[Row]) -> str:
    """sha256 over the ids of ``rows`` in order."""
    return hashlib.sha256("\n".join(row.id for row in rows).encode()).hexdigest()
