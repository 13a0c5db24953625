"""Gradio's HTTP routes: uploads and redirects corrected, and the internals of the mounted application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class GradioRoutes:
    """An ASGI middleware that refuses uploads and makes redirects relative.

    Gradio 6.31 stores files of any size from anybody; no component of this page takes a file. Its redirects name the
    host of the request's headers, which may be one behind a proxy. No upstream issue known for either.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless it is an upload."""
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload"):
            await PlainTextResponse("nothing can be uploaded here", 404)(scope, receive, send)
            return

        async def send_relative(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("Location", "").startswith("http"):
                    headers["Location"] = "./"
            await send(message)

        await self._app(scope, receive, send_relative)


def mounted_page(app: FastAPI) -> gr.routes.App:
    """Gradio's own application in ``app``; ``gr.mount_gradio_app`` does not return it. No upstream issue known.

    Its ``stop_event`` ends the heartbeat streams, for which uvicorn would wait at shutdown (gradio-app/gradio#7932).
    """
    mounted = (getattr(route, "app", None) for route in app.routes)
    return next(page for page in mounted if isinstance(page, gr.routes.App))


def user_of_request(page: gr.routes.App) -> Callable[[Request], str | None]:
    """The user of a request to a route that is not Gradio's, as Gradio 6.31 finds it; None if nobody is logged in.

    Gradio keeps its function for that inside the application's constructor. No upstream issue known.
    """

    def user(request: Request) -> str | None:
        if page.auth_dependency is not None:
            return page.auth_dependency(request) or None
        names = (f"access-token-{page.cookie_id}", f"access-token-unsecure-{page.cookie_id}")
        tokens: dict[Any, str] = page.tokens
        return next((tokens[token] for name in names if (token := request.cookies.get(name)) in tokens), None)

    return user
