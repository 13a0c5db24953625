"""Requests that wait: bounded, and taken from each API key in turn."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First come, first served within a key; between keys, the one that was served longest ago comes first.

    ``n_keys`` share ``capacity`` evenly, so that one key's flood leaves room for the others.
    """

    def __init__(self, capacity: int, n_keys: int = 1) -> None:
        self.capacity = capacity
        self.share = max(1, capacity // max(1, n_keys))
        # Keys that wait, in the order of their turns.
        self._waiting: dict[str, deque[T]] = {}
        self._lock = threading.Lock()

    def put(self, key: str, item: T) -> bool:
        """Add an item; False where the key's share, or the whole queue, is full."""
        with self._lock:
            if self._count() >= self.capacity or len(self._waiting.get(key, ())) >= self.share:
                return False
            self._waiting.setdefault(key, deque()).append(item)
            return True

    def take(self) -> T | None:
        """The next item; its key goes to the end of the turns."""
        with self._lock:
            if not self._waiting:
                return None
            key = next(iter(self._waiting))
            items = self._waiting.pop(key)
            item = items.popleft()
            if items:
                self._waiting[key] = items
            return item

    def remove(self, item: T) -> bool:
        """Take an item out, wherever it stands; False where it is not there any more."""
        with self._lock:
            for key, items in self._waiting.items():
                if item in items:
                    items.remove(item)
                    if not items:
                        del self._waiting[key]
                    return True
            return False

    def __len__(self) -> int:
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return sum(map(len, self._waiting.values()))
