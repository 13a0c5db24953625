"""What waits for the disk is done in a thread; what goes wrong is said on the page."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import gradio as gr

from components.errors import DataError

Result = TypeVar("Result")


async def in_thread(function: Callable[..., Result], *args: Any) -> Result:
    """What the function gives.

    Raises:
        gr.Error: in the words of its DataError, or of the database.
    """
    try:
        return await asyncio.to_thread(function, *args)
    except DataError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except sqlite3.Error as error:
        raise gr.Error(f"The page's database fails: {error}. Its log says more.") from error


def telling(status: gr.Markdown, handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The handler of an event, whose gr.Error is shown in ``status``.

    Gradio's own script shows no error of an event that does not queue.
    """

    @wraps(handler)
    async def told(*args: Any) -> Any:
        try:
            return await handler(*args)
        except gr.Error as error:
            return {status: f"⚠ {error.message}"}

    return told
