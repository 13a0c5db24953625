"""The Content-Security-Policy and related headers of every response."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio's page has inline scripts and styles, and makes workers and pictures from blobs.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


class SecurityHeaders:
    """An ASGI middleware: the browser may request nothing from other hosts, and proxies do not buffer streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add headers to the response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["X-DNS-Prefetch-Control"] = "off"
                if headers.get("Content-Type", "").startswith("text/event-stream"):
                    # nginx buffers a response by default, so a stream would come in blocks.
                    headers["X-Accel-Buffering"] = "no"
            await send(message)

        await self._app(scope, receive, send_with_headers)
