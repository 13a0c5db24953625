"""Headers that keep the browser on the page's own host, and proxies from holding back what comes."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio's page has scripts and styles in line, and makes workers and pictures out of blobs.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


class OwnHostOnly:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the other does, with headers; uploads are refused."""

        # Gradio takes files of any size from anybody; nothing on this page wants one.
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload"):
            await PlainTextResponse("nothing can be uploaded here", 404)(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["X-DNS-Prefetch-Control"] = "off"
                if headers.get("Content-Type", "").startswith("text/event-stream"):
                    # nginx would hold back what comes until a buffer is full.
                    headers["X-Accel-Buffering"] = "no"
                # Gradio names the page's root by the host that it was told, which may be one behind a proxy.
                if headers.get("Location", "").startswith("http"):
                    headers["Location"] = "./"
            await send(message)

        await self._app(scope, receive, send_with_policy)
