"""Logging that blocks nobody: a thread of its own writes the lines.

Requests are logged on the thread that serves all sockets. If the lines were written there, a full pipe, whose reader is
slow or gone, would stop every stream and every probe.
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
# How long the end of the process waits for lines that are not written yet.
LOG_FLUSH_SECONDS = 2.0


class _DroppingHandler(QueueHandler):
    """Puts lines into a bounded queue, and counts those that do not fit."""

    queue: queue.Queue[logging.LogRecord]

    def __init__(self, n_lines: int) -> None:
        super().__init__(queue.Queue(n_lines))
        self._n_dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held."""
        try:
            if self._n_dropped:
                message = f"{self._n_dropped} lines of log were dropped: nobody read them"
                self.queue.put_nowait(logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None))
                self._n_dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._n_dropped += 1


@contextmanager
def nonblocking_log(n_lines: int = MAX_LINES) -> Iterator[None]:
    """Within the context a thread passes lines to the root logger's handlers; beyond ``n_lines`` that wait, it drops.

    If the lines cannot be written at the end, because nobody reads them, the process exits here.
    """
    root = logging.getLogger()
    before = root.handlers[:]
    handler = _DroppingHandler(n_lines)
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
        deadline = time.monotonic() + LOG_FLUSH_SECONDS
        # Not the listener's own stop: it waits for ever where nobody reads.
        while handler.queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)
        if handler.queue.unfinished_tasks:
            os._exit(exit_code)  # an orderly exit would wait for the write that blocks
