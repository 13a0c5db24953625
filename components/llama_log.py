"""What llama.cpp says: kept for the message of an error instead of printed among the lines of a server."""

from __future__ import annotations

from collections import deque
from typing import Any

import llama_cpp

# ggml_log_level: 4 is an error.
ERROR = 4

_errors: deque[str] = deque(maxlen=3)


@llama_cpp.llama_log_callback
def _keep(level: int, text: bytes, _: Any) -> None:
    if level == ERROR:
        _errors.append(" ".join(text.decode(errors="replace").split()))


def listen_to_llama() -> None:
    """Take over llama.cpp's log, once the library is loaded."""
    llama_cpp.llama_log_set(_keep, None)


def last_errors() -> str:
    """The last errors since the last call, for one line."""
    said = "; ".join(_errors)
    _errors.clear()
    return said or "it gives no reason"
