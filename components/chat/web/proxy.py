"""A page behind any proxy: under a path, behind TLS, whatever Host it is told."""

from __future__ import annotations

from typing import Any

from gradio.routes import STATIC_TEMPLATE_LIB, templates, toorjson
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ROOT = "lorry-root"
HERE = 'new URL(".", location.href).href.slice(0, -1)'


class UnderPath:
    """An ASGI application under a path, which a proxy in front takes away or leaves."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._path = f"/{root_path.strip('/')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does; an address without the slash at its end leads to the one with it."""
        path = scope.get("path", "")
        if self._path != "/" and path == self._path:
            answer: ASGIApp = RedirectResponse(f"{self._path.rpartition('/')[2]}/")
            await answer(scope, receive, send)
            return
        if self._path != "/" and path.startswith(f"{self._path}/"):
            scope = {**scope, "path": path.removeprefix(self._path)}
        await self._app(scope, receive, send)


def name_root_in_browser() -> None:
    """Let the page's own address, as the browser knows it, be the root of everything that Gradio's script asks for.

    Gradio makes it of the request's headers. Behind a proxy those are often the proxy's own business.
    """
    templates.env.filters["toorjson"] = _as_script
    templates.env.loader = _Relative(STATIC_TEMPLATE_LIB)


class _Relative(FileSystemLoader):
    def get_source(self, environment: Environment, template: str) -> Any:
        source, *rest = super().get_source(environment, template)
        return source.replace('"/manifest.json"', '"./manifest.json"'), *rest


def _as_script(value: Any) -> Markup:
    if isinstance(value, str):
        return Markup(HERE)
    if isinstance(value, dict) and "root" in value:
        return Markup(str(toorjson({**value, "root": ROOT})).replace(f'"{ROOT}"', HERE))
    return Markup(toorjson(value))
