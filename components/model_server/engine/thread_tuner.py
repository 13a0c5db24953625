"""How many threads compute: all that the quota allows, fewer while neighbours on the node use the cores.

llama.cpp's threads wait for each other after every operation. One that does not get a core keeps all others waiting, so
four threads on two free cores are slower than two. Linux counts how long threads have waited for a core.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

# Seconds of computing that are judged together.
WINDOW_SECONDS = 0.5
# Share of the threads' time that they wait for a core: under 0.01 on an idle machine with 4, some 0.23 beside one busy
# process, 0.44 beside two. Clients on the same machine make some hundredths.
CROWDED = 0.15
# After so long without computing a window begins anew: waiting before it, as in a warm-up, says nothing about now.
PAUSE_SECONDS = 0.1
FIRST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 2.0, 60.0
TASKS = Path("/proc/self/task")


class ThreadTuner:
    """Sets the number of threads after every step; one more is tried from time to time, less often while that fails."""

    def __init__(
        self,
        max_threads: int,
        set_n_threads: Callable[[int], None],
        *,
        waited: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``waited`` gives the seconds that this process's threads have waited for a core so far; None: unknown."""
        self._max_threads = max_threads
        self._set_n_threads = set_n_threads
        self._waited = waited
        self._clock = clock
        self.n_threads = max_threads
        self._patience = FIRST_PATIENCE_SECONDS
        self._next_try = 0.0
        self._computed = 0.0
        self._waited_before = waited()
        self._ended = clock()

    def learn(self, seconds: float) -> None:
        """Learn that a step took so long and has just ended; from time to time, this changes the number of threads."""
        now, before = self._clock(), self._ended
        self._ended = now
        if now - seconds - before > PAUSE_SECONDS:
            self._waited_before, self._computed = self._waited(), 0.0
            # Short answers far apart may never fill a window: one thread more is tried all the same.
            if self._waited_before is not None and self.n_threads < self._max_threads and now >= self._next_try:
                self._use(self.n_threads + 1)
            return
        self._computed += seconds
        if self._computed < WINDOW_SECONDS or self._waited_before is None:
            return
        waited = self._waited()
        if waited is not None:
            self._judge((waited - self._waited_before) / (self._computed * self.n_threads))
        self._waited_before, self._computed = waited, 0.0

    def _judge(self, share: float) -> None:
        n = self.n_threads
        if share > CROWDED and n > 1:
            self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
            self._next_try = self._clock() + self._patience
            self._use(max(1, n - max(1, round(share * n))))
        elif share <= CROWDED and n < self._max_threads and self._clock() >= self._next_try:
            self._use(n + 1)
        elif n == self._max_threads:
            self._patience = FIRST_PATIENCE_SECONDS

    def _use(self, n_threads: int) -> None:
        log.info("threads: %d of %d", n_threads, self._max_threads)
        self._set_n_threads(n_threads)
        self.n_threads = n_threads


def seconds_waited_for_a_core() -> float | None:
    """What all threads of this process have waited on the run queues so far; None where Linux does not count it."""
    nanoseconds = 0
    try:
        for task in TASKS.iterdir():
            try:
                nanoseconds += int((task / "schedstat").read_text(encoding="ascii").split()[1])
            except (ProcessLookupError, FileNotFoundError):
                continue  # it has ended since
    except (OSError, IndexError, ValueError):
        return None
    return nanoseconds / 1e9
