"""Answers by key, from their start until some time after their end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Ends(Protocol):
    """Something that runs for a while."""

    @property
    def ended(self) -> float | None:
        """When it ended, by the clock of ``Recent``; None while it runs."""


Item = TypeVar("Item", bound=Ends)


class Recent(Generic[Item]):
    """Items that run or ended less than ``seconds`` ago: a window that reconnects late still gets the end."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._items: dict[tuple[str, str], Item] = {}

    def add(self, user: str, name: str, item: Item) -> None:
        """Remember an item, instead of an earlier one of that name; those that ended long ago are dropped."""
        oldest = self._clock() - self._seconds
        self._items = {key: known for key, known in self._items.items() if known.ended is None or known.ended > oldest}
        self._items[user, name] = item

    def get(self, user: str, name: str) -> Item | None:
        """The user's last item of that name, if it is still remembered."""
        return self._items.get((user, name))
