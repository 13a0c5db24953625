"""How many threads compute: all that the quota allows, fewer while neighbours on the node take the cores.

llama.cpp's threads wait for each other after every operation. One that does not get a core keeps all others waiting, so
four threads on two free cores are slower than two. Linux tells how long threads have waited for a core.
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
# After so long without computing a window begins anew: what waited meanwhile, such as a warm-up, says nothing of now.
PAUSE_SECONDS = 0.1
FIRST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 2.0, 60.0
TASKS = Path("/proc/self/task")


class Threads:
    """Sets the number of threads after every step; one more is tried now and then, ever more rarely when it fails."""

    def __init__(
        self,
        most: int,
        set_n_threads: Callable[[int], None],
        *,
        waited: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``waited`` gives the seconds that this process's threads have waited for a core so far; None: unknown."""
        self._most = most
        self._set_n_threads = set_n_threads
        self._waited = waited
        self._clock = clock
        self.n = most
        self._patience = FIRST_PATIENCE_SECONDS
        self._next_try = 0.0
        self._computed = 0.0
        self._before = waited()
        self._ended = clock()

    def computed(self, seconds: float) -> None:
        """Learn that a step took so long and has just ended; from time to time, this changes the number of threads."""
        now, before = self._clock(), self._ended
        self._ended = now
        if now - seconds - before > PAUSE_SECONDS:
            self._before, self._computed = self._waited(), 0.0
            # Short answers far apart may never fill a window: one thread more is tried all the same.
            if self._before is not None and self.n < self._most and now >= self._next_try:
                self._use(self.n + 1)
            return
        self._computed += seconds
        if self._computed < WINDOW_SECONDS or self._before is None:
            return
        waited = self._waited()
        if waited is not None:
            self._judge((waited - self._before) / (self._computed * self.n))
        self._before, self._computed = waited, 0.0

    def _judge(self, share: float) -> None:
        if share > CROWDED and self.n > 1:
            self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
            self._next_try = self._clock() + self._patience
            self._use(max(1, self.n - max(1, round(share * self.n))))
        elif share <= CROWDED and self.n < self._most and self._clock() >= self._next_try:
            self._use(self.n + 1)
        elif self.n == self._most:
            self._patience = FIRST_PATIENCE_SECONDS

    def _use(self, n: int) -> None:
        log.info("threads: %d of %d", n, self._most)
        self._set_n_threads(n)
        self.n = n


def seconds_waited_for_a_core() -> float | None:
    """What all threads of this process have waited on the run queues so far; None where Linux does not tell."""
    waited = 0
    try:
        for task in TASKS.iterdir():
            try:
                waited += int((task / "schedstat").read_text(encoding="ascii").split()[1])
            except (ProcessLookupError, FileNotFoundError):
                continue  # it has ended since
    except (OSError, IndexError, ValueError):
        return None
    return waited / 1e9
