"""How the server ends: it takes nothing new, finishes what runs, and ends every stream before it leaves."""

from __future__ import annotations

import logging
import signal
import time
from types import FrameType

import uvicorn

from components.model_server.engine.interface import Engine

log = logging.getLogger(__name__)

# What streams have said still has to reach their clients.
SECONDS_TO_HAND_OVER = 5


class DrainingServer(uvicorn.Server):
    """The first SIGTERM or Ctrl-C drains; the second ends what runs at once.

    While it drains, probes are answered: ``/readyz`` says no, ``/livez`` yes.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, drain_seconds: float) -> None:
        config.timeout_graceful_shutdown = SECONDS_TO_HAND_OVER
        super().__init__(config)
        self._engine = engine
        self._drain_seconds = drain_seconds
        self._n_signals = 0
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for each signal, in the middle of whatever the main thread does: it takes no lock, nor logs."""
        if sig == signal.SIGINT:
            # uvicorn raises it again at the end: Ctrl-C has exit code 130, and SIGTERM ends well.
            self._captured_signals.append(sig)
        self._n_signals += 1

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; True ends the server."""
        if self._n_signals and self._deadline is None:
            self._deadline = time.monotonic() + self._drain_seconds
            self._engine.drain()
            log.info("draining: nothing new is taken, what runs has %.0f s", self._drain_seconds)
        if self._deadline is not None:
            over = time.monotonic() >= self._deadline
            if self._engine.idle or over or self._n_signals > 1:
                self._engine.stop()
                return True
        return await super().on_tick(counter)
