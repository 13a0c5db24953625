"""What llama.cpp says: kept for the message of an error instead of printed among the lines of a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp

# Of ggml_log_level; a line that is said in pieces goes on with CONTINUED.
WARNING, ERROR, CONTINUED = 3, 4, 5

_errors: deque[str] = deque(maxlen=3)
_listeners: list[list[str]] = []


@llama_cpp.llama_log_callback
def _keep(level: int, text: bytes, _: Any) -> None:
    if level == ERROR:
        _errors.append(" ".join(text.decode(errors="replace").split()))
    if level in (WARNING, CONTINUED):
        for pieces in _listeners:
            pieces.append(text.decode(errors="replace"))


def listen_to_llama() -> None:
    """Take over llama.cpp's log, once the library is loaded."""
    llama_cpp.llama_log_set(_keep, None)


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """The pieces of llama.cpp's warnings during the context."""
    pieces: list[str] = []
    listen_to_llama()
    _listeners.append(pieces)
    try:
        yield pieces
    finally:
        _listeners.remove(pieces)


def last_errors() -> str:
    """The last errors since the last call, for one line."""
    said = "; ".join(_errors)
    _errors.clear()
    return said or "it gives no reason"
