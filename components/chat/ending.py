"""How the page ends."""

from __future__ import annotations

import socket

import uvicorn

from components.chat.running import Running


class EndingServer(uvicorn.Server):
    """After SIGTERM or Ctrl-C every answer ends at once, and what has come of it is kept and shown."""

    def __init__(self, config: uvicorn.Config, running: Running) -> None:
        super().__init__(config)
        self._running = running

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn once it is to end; it would wait for streams that do not end by themselves."""
        await self._running.close()
        await super().shutdown(sockets)
