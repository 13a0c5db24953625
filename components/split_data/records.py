"""Raw records of one data file: JSON lines, JSON, CSV or Parquet, compressed or not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from components.errors import DataError
from components.split_data.raw import MAX_ROW_BYTES, UTF_8, RawRecord, encoding_of, too_long
from components.split_data.tables import read_csv, read_parquet

FILE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
# Every suffix of a data file's name, in any case; Parquet compresses by itself.
DATA_SUFFIXES = (*FILE_SUFFIXES, *(f"{kind}{suffix}" for kind in FILE_SUFFIXES[:-1] for suffix in COMPRESSIONS))
# The columns of a table that conversations are read from.
COLUMNS = frozenset(
    {
        *("messages", "conversations", "instruction", "input", "output", "history", "prompt", "completion", "system"),
        *("tools", "functions", "images", "image", "audio", "audios", "videos", "video"),
    }
)
NOT_TEXT_BYTE = b"\xff"


def is_data_file(address: str) -> bool:
    """True for an address that ends like a data file."""
    return address.lower().endswith(DATA_SUFFIXES)


def records_of(path: Path, *, every_column: bool = False) -> Iterator[RawRecord]:
    """Every record of one data file; of a table the columns that conversations are read from, or ``every_column``.

    Raises:
        DataError: the file cannot be read or unpacked.
    """
    name = path.name.lower()
    name = name.removesuffix(_compression_suffix(name) or "")
    readers: dict[str, Callable[[Path], Iterator[RawRecord]]] = {
        ".parquet": lambda file: read_parquet(file, None if every_column else COLUMNS),
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".csv": lambda file: read_csv(file, _open(file), ",", COLUMNS),
        ".tsv": lambda file: read_csv(file, _open(file), "\t", COLUMNS),
        ".json": _read_json,
    }
    try:
        yield from readers[Path(name).suffix](path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read or unpacked ({error}); copy or pack the file again") from error


def _compression_suffix(name: str) -> str | None:
    return next((suffix for suffix in COMPRESSIONS if name.endswith(suffix)), None)


def _open(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed where its name has the suffix of a compression."""
    import pyarrow as pa

    suffix = _compression_suffix(path.name.lower())
    stream = pa.input_stream(path, compression=suffix and COMPRESSIONS[suffix], buffer_size=1 << 20)
    # pyarrow's stream works as a raw one, though its type does not say so.
    return io.BufferedReader(cast(io.RawIOBase, stream))


def _read_jsonl(path: Path) -> Iterator[RawRecord]:
    # Read as bytes, so that broken UTF-8 drops its line and not the file.
    with _open(path) as file:
        encoding = encoding_of(file)
        lines = _lines(file) if encoding == UTF_8 else _recoded_lines(file, encoding)
        for number, (line, n_bytes) in enumerate(lines, start=1):
            if n_bytes > MAX_ROW_BYTES:
                yield RawRecord(number, None, too_long(n_bytes))
            elif line.strip():
                yield RawRecord(number, line)


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Each line (of one that is too long, the beginning), and its length in bytes."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        n_bytes = len(line)
        rest = line
        while len(rest) == MAX_ROW_BYTES + 1 and not rest.endswith(b"\n"):
            rest = file.readline(MAX_ROW_BYTES + 1)
            n_bytes += len(rest)
        yield line, n_bytes


def _recoded_lines(file: BinaryIO, encoding: str) -> Iterator[tuple[bytes, int]]:
    """As ``_lines`` in UTF-8, of a file in UTF-16 or UTF-32; a lone surrogate stays, and drops its line later."""
    with io.TextIOWrapper(file, encoding=encoding, errors="surrogatepass", newline="\n") as text:
        try:
            while line := text.readline(MAX_ROW_BYTES + 1):
                n_bytes = n_last = len(line)
                last = line
                while n_last == MAX_ROW_BYTES + 1 and not last.endswith("\n"):
                    last = text.readline(MAX_ROW_BYTES + 1)
                    n_last = len(last)
                    n_bytes += n_last
                recoded = line.encode("utf-8", "surrogatepass")
                yield recoded, max(n_bytes, len(recoded))
        except UnicodeDecodeError:
            yield NOT_TEXT_BYTE, 1  # the file ends within a character: no further line can be separated


def _read_json(path: Path) -> Iterator[RawRecord]:
    try:
        with _open(path) as file:
            rows = json.loads(file.read())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start + 1}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno} is not JSON ({error.msg} at column {error.colno}); "
            "correct it, or name the file .jsonl if it has one JSON object a line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: JSON that cannot be read ({error}); write one JSON object a line (.jsonl)") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a JSON {type(rows).__name__}, but must hold a list of conversations")
    return (RawRecord(number, row) for number, row in enumerate(rows, start=1))
