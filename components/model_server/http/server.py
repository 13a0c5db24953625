"""How the server shuts down: it accepts nothing new, finishes what runs, and ends every stream before it exits."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from components.model_server.engine.interface import Engine

log = logging.getLogger(__name__)

# What the engine has generated still has to reach the clients.
STREAM_FLUSH_SECONDS = 5


class DrainingServer(uvicorn.Server):
    """The first SIGTERM or Ctrl-C drains; the second ends what runs at once.

    While it drains, ``/readyz`` answers 503 and ``/livez`` 200.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        engine: Engine,
        drain_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config.timeout_graceful_shutdown = STREAM_FLUSH_SECONDS
        super().__init__(config)
        self._engine = engine
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._n_signals = 0
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for each signal, in the middle of whatever the main thread does: it must neither lock nor log."""
        if sig == signal.SIGINT:
            # uvicorn raises it again at the end: the exit code is 130 after Ctrl-C, and 0 after SIGTERM.
            self._captured_signals.append(sig)
        self._n_signals += 1

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; True ends the server."""
        if self._n_signals and self._deadline is None:
            self._deadline = self._clock() + self._drain_seconds
            self._engine.drain()
            log.info("draining: no new requests, %.0f s for those that run or wait", self._drain_seconds)
        if self._deadline is not None:
            is_over = self._clock() >= self._deadline
            if self._engine.idle or is_over or self._n_signals > 1:
                self._engine.stop()
                return True
        return await super().on_tick(counter)
