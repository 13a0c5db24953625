"""llama.cpp's log: kept for the message of an error instead of printed among the lines of a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp

# Of ggml_log_level; CONTINUED goes on with the line before, which was logged in parts.
WARNING, ERROR, CONTINUED = 3, 4, 5

_errors: deque[str] = deque(maxlen=3)
_listeners: list[list[str]] = []


@llama_cpp.llama_log_callback
def _keep(level: int, text: bytes, _: Any) -> None:
    if level == ERROR:
        _errors.append(" ".join(text.decode(errors="replace").split()))
    if level in (WARNING, CONTINUED):
        for parts in _listeners:
            parts.append(text.decode(errors="replace"))


def capture_log() -> None:
    """Take over llama.cpp's log, once the library is loaded."""
    llama_cpp.llama_log_set(_keep, None)


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """The parts of llama.cpp's warnings during the context."""
    parts: list[str] = []
    capture_log()
    _listeners.append(parts)
    try:
        yield parts
    finally:
        _listeners.remove(parts)


def last_errors() -> str:
    """The last errors since the last call, for one line."""
    errors = "; ".join(_errors)
    _errors.clear()
    return errors or "it gives no reason"
