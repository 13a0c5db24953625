"""Text of tokens, cut before the first stop string."""

from __future__ import annotations

from collections.abc import Sequence

from components.gguf.model import TextStream
from components.modeling.reasoning import n_overlap


class StopStringFilter:
    """Holds back text that may be the beginning of a stop string; ``stopped`` once one has come."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [string for string in stop if string]
        self._stream = TextStream()
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """Add a token's bytes; the text that can be sent now."""
        self._held += self._stream.feed(piece)
        found = [(begin + len(string), begin) for string in self._stop if (begin := self._held.find(string)) >= 0]
        if found:
            self.stopped = True
            # Of several in one token, the one that ends first: as if the text had come one character at a time.
            return self._release(min(found)[1], drop_rest=True)
        n_held = max((n_overlap(self._held, string) for string in self._stop), default=0)
        return self._release(len(self._held) - n_held)

    def rest(self) -> str:
        """The text that is still held back when no token follows; without an incomplete character at the end."""
        return "" if self.stopped else self._held

    def _release(self, end: int, *, drop_rest: bool = False) -> str:
        ready, self._held = self._held[:end], "" if drop_rest else self._held[end:]
        return ready
