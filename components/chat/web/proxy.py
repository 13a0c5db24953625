"""A page under a path, behind a proxy."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class UnderPath:
    """An ASGI application under a path, which the proxy in front strips or leaves in the request."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._path = f"/{root_path.strip('/')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on without the path; the path without its final slash is redirected to the one with it."""
        path = scope.get("path", "")
        if self._path != "/" and path == self._path:
            redirect: ASGIApp = RedirectResponse(f"{self._path.rpartition('/')[2]}/")
            await redirect(scope, receive, send)
            return
        if self._path != "/" and path.startswith(f"{self._path}/"):
            scope = {**scope, "path": path.removeprefix(self._path)}
        await self._app(scope, receive, send)
