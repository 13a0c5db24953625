"""Rows on disk: the Parquet files that split_data writes and later parts read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from components.artifacts.contracts import Message, Row


def row_id(messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None) -> str:
    """32 hexadecimal digits of the sha256 over roles and words; white space around a message does not count."""
    digest = hashlib.sha256()
    for message in messages:
        digest.update(f"{message.role}\x1f{message.content.strip()}{extra_fields_text(message)}\x1e".encode())
    if tools:
        digest.update(json.dumps(tools, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def extra_fields_text(message: Message) -> str:
    """What a message says beside role and content, as text that is equal for equal messages; mostly empty."""
    rest = message.model_dump(exclude={"role", "content"})
    return f"\x1f{json.dumps(rest, sort_keys=True)}" if rest else ""


def write_rows(rows: Sequence[Row], path: str) -> None:
    """Write ``rows`` as one Parquet file with the columns ``id``, ``messages`` and ``tools``.

    Tool calls and tools are JSON text: their arguments have no common columns.
    """
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.Table.from_pylist([_to_columns(row) for row in rows], schema=_schema()), path)


def _to_columns(row: Row) -> dict[str, Any]:
    document = row.model_dump()
    for message in document["messages"]:
        _change(message, "tool_calls", json.dumps)
    return _change(document, "tools", json.dumps)


def _from_columns(document: dict[str, Any]) -> Row:
    for message in document["messages"]:
        _change(message, "tool_calls", json.loads)
    return Row.model_validate(_change(document, "tools", json.loads))


def _change(document: dict[str, Any], key: str, how: Callable[[Any], Any]) -> dict[str, Any]:
    if document.get(key) is not None:
        document[key] = how(document[key])
    return document


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

    texts = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
    message = pa.struct([*((name, pa.string()) for name in texts), ("weight", pa.int8())])
    return pa.schema([("id", pa.string()), ("messages", pa.list_(message)), ("tools", pa.string())])


def read_rows(path: str) -> list[Row]:
    """The rows of a file that ``write_rows`` wrote, in order."""
    import pyarrow.parquet

    return [_from_columns(row) for row in pyarrow.parquet.read_table(path).to_pylist()]


def data_fingerprint(rows: Sequence[Row]) -> str:
    """sha256 over the ids of ``rows`` in order."""
    return hashlib.sha256("\n".join(row.id for row in rows).encode()).hexdigest()
