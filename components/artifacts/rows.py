"""The Parquet files of rows, which split_data writes and later parts read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from components.artifacts.contracts import Message, Row


def row_id(messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None) -> str:
    """32 hexadecimal digits of a sha256 over a conversation; white space around a message is ignored."""
    digest = hashlib.sha256()
    for message in messages:
        digest.update(f"{message.role}\x1f{message.content.strip()}{extra_fields_text(message)}\x1e".encode())
    if tools:
        digest.update(json.dumps(tools, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def extra_fields_text(message: Message) -> str:
    """The fields of a message other than role and content as canonical text; empty where none is set."""
    rest = message.model_dump(exclude={"role", "content"})
    return f"\x1f{json.dumps(rest, sort_keys=True)}" if rest else ""


def write_rows(rows: Sequence[Row], path: str) -> None:
    """Write ``rows`` as one Parquet file with the columns ``id``, ``messages`` and ``tools``.

    Tool calls and tools are stored as JSON text, as their arguments have no common columns.
    """
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.Table.from_pylist([_to_columns(row) for row in rows], schema=_schema()), path)


def _to_columns(row: Row) -> dict[str, Any]:
    document = row.model_dump()
    for message in document["messages"]:
        _convert(message, "tool_calls", json.dumps)
    return _convert(document, "tools", json.dumps)


def _from_columns(document: dict[str, Any]) -> Row:
    for message in document["messages"]:
        _convert(message, "tool_calls", json.loads)
    return Row.model_validate(_convert(document, "tools", json.loads))


def _convert(document: dict[str, Any], key: str, convert: Callable[[Any], Any]) -> dict[str, Any]:
    if document.get(key) is not None:
        document[key] = convert(document[key])
    return document


class RowWriter:
    """Writes rows of several row files into one. Use it as a context manager."""

    def __init__(self, path: str) -> None:
        import pyarrow.parquet

        self._writer = pyarrow.parquet.ParquetWriter(path, _schema())

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def copy(self, path: str, selected: Any) -> None:
        """Append the rows of the file at ``path`` that ``selected`` (an array of booleans, one a row) selects."""
        import pyarrow.parquet

        if selected.any():
            self._writer.write_table(pyarrow.parquet.read_table(path).filter(selected))


def _schema() -> Any:
    import pyarrow as pa

    texts = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
    message = pa.struct([*((name, pa.string()) for name in texts), ("weight", pa.int8())])
    return pa.schema([("id", pa.string()), ("messages", pa.list_(message)), ("tools", pa.string())])


def read_rows(path: str) -> list[Row]:
    """The rows of a file that ``write_rows`` or ``RowWriter`` wrote, in order."""
    import pyarrow.parquet

    return [_from_columns(row) for row in pyarrow.parquet.read_table(path).to_pylist()]


def data_fingerprint(rows: Sequence[Row]) -> str:
    """sha256 over the ids of ``rows`` in order."""
    return hashlib.sha256("\n".join(row.id for row in rows).encode()).hexdigest()
