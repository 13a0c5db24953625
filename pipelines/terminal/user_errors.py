"""The error that a step's log ends with, where the user can correct it."""

from __future__ import annotations

import re
from collections.abc import Sequence

# The last line of the traceback of a LorryError.
_USER_ERROR = re.compile(r"^components\.errors\.\w+: (.*)$")


def user_error(lines: Sequence[str]) -> str | None:
    """The message of the last LorryError among ``lines``, or None."""
    for line in reversed(lines):
        if match := _USER_ERROR.match(line):
            return match[1]
    return None
