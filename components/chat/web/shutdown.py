"""How the page ends."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from components.chat.client.running import Running


class EndingServer(uvicorn.Server):
    """After SIGTERM or Ctrl-C every answer ends at once, and what has come of it is kept and shown."""

    def __init__(self, config: uvicorn.Config, running: Running, stop_event: asyncio.Event) -> None:
        """``stop_event`` ends the streams that Gradio keeps open to every page."""
        super().__init__(config)
        self._running = running
        self._stop_event = stop_event

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn once it is to end; it would wait for streams that do not end by themselves."""
        await self._running.close()
        self._stop_event.set()
        await super().shutdown(sockets)
