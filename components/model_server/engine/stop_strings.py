"""Text of tokens, cut before the first stop string."""

from __future__ import annotations

from collections.abc import Sequence

from components.gguf.model import TextStream
from components.modeling.reasoning import n_overlap


class StoppingText:
    """What could be the start of a stop string is held back until it is certain."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [string for string in stop if string]
        self._stream = TextStream()
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """Text that is certain now."""
        self._held += self._stream.feed(piece)
        places = [place for string in self._stop if (place := self._held.find(string)) >= 0]
        if places:
            self.stopped = True
            return self._release(min(places), drop_rest=True)
        held_back = max((n_overlap(self._held, string) for string in self._stop), default=0)
        return self._release(len(self._held) - held_back)

    def rest(self) -> str:
        """What is left when no token follows; of a character that was begun nothing is."""
        return "" if self.stopped else self._held

    def _release(self, end: int, *, drop_rest: bool = False) -> str:
        ready, self._held = self._held[:end], "" if drop_rest else self._held[end:]
        return ready
