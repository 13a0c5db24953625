"""Shutdown of the page's server."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from components.chat.answering.comparing import RunningComparisons
from components.chat.answering.running import RunningAnswers


class ChatPageServer(uvicorn.Server):
    """After SIGTERM or Ctrl-C every running answer ends at once; what has come of it is saved and shown."""

    def __init__(
        self,
        config: uvicorn.Config,
        running: RunningAnswers,
        comparisons: RunningComparisons,
        stop_event: asyncio.Event,
    ) -> None:
        """``stop_event`` ends the streams that Gradio keeps open to every window."""
        super().__init__(config)
        self._running = running
        self._comparisons = comparisons
        self._stop_event = stop_event

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn to shut down; uvicorn would wait for streams that do not end by themselves."""
        await self._running.close()
        await self._comparisons.close()
        self._stop_event.set()
        await super().shutdown(sockets)
