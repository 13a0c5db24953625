"""Requests that wait: bounded, and taken from each API key in turn."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First come, first served within a key; keys that wait take turns.

    ``n_keys`` share ``capacity`` evenly, so that the requests of one key do not keep out the others'. Capacity is
    reserved before a request is prepared, so that to refuse one costs nothing. Any thread may call.
    """

    def __init__(self, capacity: int, n_keys: int = 1) -> None:
        self.capacity = capacity
        self.share = max(1, capacity // max(1, n_keys))
        # key -> its items, the oldest first; keys are in the order of their turns, and have at least one item.
        self._waiting: dict[str, deque[T]] = {}
        # key -> items to come.
        self._reserved: Counter[str] = Counter()
        self._closed = False
        self._lock = threading.Lock()

    def reserve(self, key: str, n_free: int = 0) -> bool:
        """Reserve capacity for an item to come; False where there is none."""
        with self._lock:
            if not self._has_capacity(key, n_free):
                return False
            self._reserved[key] += 1
            return True

    def has_capacity(self, key: str, n_free: int = 0) -> bool:
        """False where the key's share, or the whole queue, is full.

        Items for ``n_free`` slots, which are about to be taken, do not count as waiting.
        """
        with self._lock:
            return self._has_capacity(key, n_free)

    def put(self, key: str, item: T | None) -> bool:
        """Use a reservation for an item (None: give it up); False when the item is not queued."""
        with self._lock:
            self._reserved[key] -= 1
            if item is None or self._closed:
                return False
            self._waiting.setdefault(key, deque()).append(item)
            return True

    def close(self) -> list[T]:
        """Queue nothing any more; the items that still wait."""
        with self._lock:
            self._closed = True
            items = [item for waiting in self._waiting.values() for item in waiting]
            self._waiting.clear()
            return items

    def take(self, held: Mapping[str, int], max_held: int) -> T | None:
        """The next item, of the key that holds least and has waited longest for its turn; the key's next turn is last.

        ``held`` says how much each key has already; one that has ``max_held`` must wait.
        """
        with self._lock:
            allowed = [key for key in self._waiting if held.get(key, 0) < max_held]
            if not allowed:
                return None
            key = min(allowed, key=lambda key: held.get(key, 0))
            items = self._waiting.pop(key)
            item = items.popleft()
            if items:
                self._waiting[key] = items
            return item

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove the items that are ``unwanted``, wherever they wait; those items."""
        with self._lock:
            found = [item for items in self._waiting.values() for item in items if unwanted(item)]
            for key, items in list(self._waiting.items()):
                left = deque(item for item in items if item not in found)
                if left:
                    self._waiting[key] = left
                else:
                    del self._waiting[key]
            return found

    def __len__(self) -> int:
        with self._lock:
            return self._count()

    def _has_capacity(self, key: str, n_free: int) -> bool:
        own = len(self._waiting.get(key, ())) + self._reserved[key]
        return self._count() + self._reserved.total() < self.capacity + n_free and own < self.share + n_free

    def _count(self) -> int:
        return sum(map(len, self._waiting.values()))
