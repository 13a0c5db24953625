"""Who may ask: keys from a mounted file, compared in constant time."""

from __future__ import annotations

import hmac
from pathlib import Path

from components.errors import LorryError
from components.model_server.engine import NO_KEY

SHORTEST_KEY = 16


class ApiKeys:
    """The keys that are known; none: nobody needs one."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = [key.encode() for key in keys]

    @classmethod
    def from_file(cls, path: Path) -> ApiKeys:
        """One key a line; empty lines and lines that begin with # do not count.

        Raises:
            LorryError: the file cannot be read, has no key, or one that is guessed too soon.
        """
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise LorryError(
                f"{path}: the API keys cannot be read ({error}); give a file with one key a line"
            ) from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise LorryError(f"{path}: holds no API key; write one a line, or serve without the file")
        short = [number for number, key in enumerate(keys, start=1) if len(key) < SHORTEST_KEY]
        if short:
            raise LorryError(
                f"{path}: key {short[0]} has fewer than {SHORTEST_KEY} characters; make one: openssl rand -hex 24"
            )
        return cls(list(dict.fromkeys(keys)))

    def __len__(self) -> int:
        return len(self._keys)

    def name_of(self, authorization: str | None) -> str | None:
        """A name for whose request it is, never the key itself; None: it is nobody's who may ask."""
        if not self._keys:
            return NO_KEY
        scheme, _, given = (authorization or "").partition(" ")
        known = None
        for number, key in enumerate(self._keys, start=1):  # all of them: the time must not tell which one fits
            if hmac.compare_digest(key, given.strip().encode()):
                known = f"key-{number}"
        return known if scheme.lower() == "bearer" else None
