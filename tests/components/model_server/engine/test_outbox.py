"""What the engine's thread hands over to asyncio's."""

from __future__ import annotations

import asyncio

from components.model_server.engine.interface import Delta
from components.model_server.engine.outbox import DeltaQueue, Outbox


def received(deltas: DeltaQueue) -> list[Delta | Exception]:
    return [deltas.get_nowait() for _ in range(deltas.qsize())]


def test_items_reach_their_streams_in_order_once_they_are_sent():
    async def scenario() -> None:
        loop, outbox = asyncio.get_running_loop(), Outbox()
        one: DeltaQueue = asyncio.Queue()
        other: DeltaQueue = asyncio.Queue()
        error = ValueError()
        for deltas, item in ((one, Delta("a")), (other, Delta("x")), (one, Delta("b")), (one, error)):
            outbox.put(loop, deltas, item)
        await asyncio.sleep(0)
        assert one.empty()
        await asyncio.to_thread(outbox.send)
        assert received(one) == [Delta("a"), Delta("b"), error]
        assert received(other) == [Delta("x")]
        await asyncio.to_thread(outbox.send)
        assert one.empty(), "an item is sent once"

    asyncio.run(scenario())


def test_a_loop_is_woken_once_for_all_items_of_a_step():
    class Loop:
        """Counts how often it is woken."""

        closed = False
        calls = 0

        def is_closed(self) -> bool:
            return self.closed

        def call_soon_threadsafe(self, deliver, items) -> None:
            assert not self.closed
            self.calls += 1
            deliver(items)

    first, second, ended, outbox = Loop(), Loop(), Loop(), Outbox()
    ended.closed = True
    queues: list[DeltaQueue] = [asyncio.Queue() for _ in range(3)]
    for loop, deltas in zip((first, second, ended), queues, strict=True):
        for text in "abc":
            outbox.put(loop, deltas, Delta(text))  # type: ignore[arg-type]
    outbox.send()
    assert (first.calls, second.calls, ended.calls) == (1, 1, 0)
    assert [deltas.qsize() for deltas in queues] == [3, 3, 0]
