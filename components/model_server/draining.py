"""How the server ends: it takes nothing new, finishes what runs, and ends every stream before it leaves."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType

import uvicorn

from components.model_server.engine import Engine

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.05
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
        self._draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for each signal; uvicorn would raise it again at the end, and SIGTERM here ends well."""
        if sig == signal.SIGINT:
            self._captured_signals.append(sig)  # Ctrl-C: exit code 130
        if self._draining:
            # Not here: the signal may have come in the middle of what a stop needs.
            threading.Thread(target=self._leave, name="leave", daemon=True).start()
            return
        self._draining = True
        self._engine.drain()
        log.info("draining: nothing new is taken, what runs has %.0f s", self._drain_seconds)
        threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        deadline = time.monotonic() + self._drain_seconds
        while not self._engine.idle and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self._leave()

    def _leave(self) -> None:
        self._engine.stop()
        self.should_exit = True
