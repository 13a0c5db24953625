"""From the engine's thread to asyncio's: all that a step has made is handed over at once."""

from __future__ import annotations

import asyncio

from components.model_server.engine.interface import Delta

# Where the deltas of one stream wait for its coroutine, and at last an error where one ends it.
DeltaQueue = asyncio.Queue[Delta | Exception]


class Outbox:
    """Collects items for the queues of streams: to wake an event loop for each would cost more than a token does."""

    def __init__(self) -> None:
        self._items: list[tuple[asyncio.AbstractEventLoop, DeltaQueue, Delta | Exception]] = []

    def put(self, loop: asyncio.AbstractEventLoop, deltas: DeltaQueue, item: Delta | Exception) -> None:
        """Keep an item for ``send``."""
        self._items.append((loop, deltas, item))

    def send(self) -> None:
        """Put every item into its queue, on the queue's own loop; items of a loop that is closed are dropped."""
        items, self._items = self._items, []
        for loop in {loop for loop, _, _ in items}:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, [(deltas, item) for of, deltas, item in items if of is loop])


def _deliver(items: list[tuple[DeltaQueue, Delta | Exception]]) -> None:
    for deltas, item in items:
        deltas.put_nowait(item)
