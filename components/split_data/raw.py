"""One record of a data file before its format is known, and the encoding of a file's text."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

# A line without an end must not fill the memory; no conversation to train on is longer.
MAX_ROW_BYTES = 1_000_000
# With or without the byte-order mark that Windows writes.
UTF_8 = "utf-8-sig"


@dataclass(frozen=True)
class RawRecord:
    """One record as it was read.

    ``line`` counts from 1: the line of a JSONL or CSV file, else the position of the row. Bytes are JSON
    in UTF-8 that was not parsed yet.
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
            # Decoded first: json.loads guesses the encoding of bytes, line by line.
            return json.loads(self.value.decode(UTF_8))
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text (byte {error.start + 1} of the line)") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"JSON that cannot be read ({error})") from error


def too_long(n_bytes: int) -> str:
    """Why a row of ``n_bytes`` is dropped."""
    return f"{n_bytes / 1e6:.1f} MB long; a row may have {MAX_ROW_BYTES / 1e6:.0f} MB: cut it into conversations"


def encoding_of(file: BinaryIO) -> str:
    """The encoding of a file's text, by its first bytes: UTF-8, or the UTF-16 and UTF-32 of PowerShell and Excel.

    The text begins with an ASCII character or a byte-order mark, else UTF-8 is assumed.
    """
    found = json.detect_encoding(cast(io.BufferedReader, file).peek(4)[:4])
    return UTF_8 if found.startswith("utf-8") else found
