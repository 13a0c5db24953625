"""A log that stalls nobody: a thread of its own writes the lines.

Requests are logged on the thread that serves all sockets. Were the lines written there, a full pipe, whose reader is
slow or has left, would stop every stream and every probe.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener

MAX_LINES = 10_000
# At the end, for lines that are still to be written.
SECONDS_TO_FINISH = 2.0


class _Dropping(QueueHandler):
    """Takes lines as long as there is room, and counts the others."""

    queue: queue.Queue[logging.LogRecord]

    def __init__(self, n_lines: int) -> None:
        super().__init__(queue.Queue(n_lines))
        self._n_dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held."""
        try:
            if self._n_dropped:
                told = f"{self._n_dropped} lines of log were dropped: nobody read them"
                self.queue.put_nowait(logging.LogRecord(__name__, logging.WARNING, __file__, 0, told, None, None))
                self._n_dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._n_dropped += 1


@contextmanager
def log_apart(n_lines: int = MAX_LINES) -> Iterator[None]:
    """Let a thread write what is logged, to where it was written before; it drops what over ``n_lines`` wait.

    Where nobody reads at the end, the process ends here.
    """
    root = logging.getLogger()
    before = root.handlers[:]
    handler = _Dropping(n_lines)
    QueueListener(handler.queue, *before).start()
    root.handlers[:] = [handler]
    exit_code = 1
    try:
        yield
        exit_code = 0
    except KeyboardInterrupt:
        exit_code = 130
        raise
    finally:
        root.handlers[:] = before
        deadline = time.monotonic() + SECONDS_TO_FINISH
        # Not the listener's own stop: it waits for ever where nobody reads.
        while handler.queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)
        if handler.queue.unfinished_tasks:
            os._exit(exit_code)  # an orderly end would wait for the write that is stuck
