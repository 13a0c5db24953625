"""API keys from a mounted file, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path

from components.errors import LorryError
from components.model_server.engine.interface import NO_KEY

SHORTEST_KEY = 16


class ApiKeys:
    """The valid keys, each with a name that may be logged; if there are none, no request needs one."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """``keys`` maps names to keys."""
        self._keys = {name: key.encode() for name, key in keys.items()}

    @classmethod
    def from_file(cls, path: Path) -> ApiKeys:
        """One key a line; empty lines and lines that begin with # do not count. A key is named by its line.

        Raises:
            LorryError: the file cannot be read, has no key, or one that is too short, or that a header cannot carry.
        """
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
        except (OSError, UnicodeDecodeError) as error:
            raise LorryError(
                f"{path}: the API keys cannot be read ({error}); give a file with one key a line"
            ) from error
        keys: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("#"):
                continue
            if len(line) < SHORTEST_KEY:
                raise LorryError(
                    f"{path}: the key of line {number} has fewer than {SHORTEST_KEY} characters; "
                    "make one: openssl rand -hex 24"
                )
            if not (line.isascii() and line.isprintable()):
                raise LorryError(
                    f"{path}: the key of line {number} has characters that clients cannot send in a header; "
                    "use letters, digits and signs of ASCII: openssl rand -hex 24"
                )
            keys.setdefault(line, number)
        if not keys:
            raise LorryError(f"{path}: holds no API key; write one a line, or serve without the file")
        return cls({f"key-{number}": key for key, number in keys.items()})

    def __len__(self) -> int:
        return len(self._keys)

    def name_of(self, authorization: bytes) -> str | None:
        """The name of the key in an Authorization header, never the key itself; None: the key is not valid."""
        if not self._keys:
            return NO_KEY
        scheme, _, given = authorization.partition(b" ")
        known = None
        for name, key in self._keys.items():  # all of them: the time must not reveal which one is equal
            if hmac.compare_digest(key, given.strip()):
                known = name
        return known if scheme.lower() == b"bearer" else None
