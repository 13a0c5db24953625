"""The page's own address, taken from the browser instead of from the request's headers."""

from __future__ import annotations

from typing import Any

from gradio.routes import STATIC_TEMPLATE_LIB, templates, toorjson
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

PLACEHOLDER = "lorry-root"
ADDRESS_IN_BROWSER = 'new URL(".", location.href).href.slice(0, -1)'


def take_root_from_browser() -> None:
    """Make the address in the browser the root of everything that Gradio's script requests.

    Gradio 6.31 builds the root from the request's Host and X-Forwarded headers; behind a proxy that sets them otherwise
    the page does not load (related: gradio-app/gradio#7641, #13601). A path that the proxy strips is in no header.
    """
    templates.env.filters["toorjson"] = _to_script
    templates.env.loader = _RelativeLoader(STATIC_TEMPLATE_LIB)


class _RelativeLoader(FileSystemLoader):
    def get_source(self, environment: Environment, template: str) -> Any:
        source, *rest = super().get_source(environment, template)
        return source.replace('"/manifest.json"', '"./manifest.json"'), *rest


def _to_script(value: Any) -> Markup:
    if isinstance(value, str):
        return Markup(ADDRESS_IN_BROWSER)
    if isinstance(value, dict) and "root" in value:
        return Markup(str(toorjson({**value, "root": PLACEHOLDER})).replace(f'"{PLACEHOLDER}"', ADDRESS_IN_BROWSER))
    return Markup(toorjson(value))
