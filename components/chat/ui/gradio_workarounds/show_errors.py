"""Errors of events that do not queue, shown on the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import gradio as gr


def show_errors(status: gr.Markdown, handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The handler of an event; its ``gr.Error`` is shown in ``status``.

    The script of Gradio 6.31 shows no error of an event with ``queue=False``. No upstream issue known.
    """

    @wraps(handler)
    async def handle(*args: Any) -> Any:
        try:
            return await handler(*args)
        except gr.Error as error:
            return {status: f"⚠ {error.message}"}

    return handle
