"""What handlers of events share: the user of a request, and a thread for work that waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from components.errors import DataError

# Values of components, by component.
Updates = dict[Any, Any]
# No entry in Gradio's API page, no progress bar over the outputs, no queue.
QUICK: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
Result = TypeVar("Result")


def user_of(request: gr.Request) -> str:
    """The name under which everything of a user is stored.

    Raises:
        gr.Error: the request has no user; the page was open when its cookie was deleted.
    """
    if not request.username:
        raise gr.Error("The page does not know you any more; load it again.", print_exception=False)
    return str(request.username)


async def in_thread(function: Callable[..., Result], *args: Any) -> Result:
    """The result of a function, called in a thread.

    Raises:
        gr.Error: with the message of the function's DataError, or of the database's error.
    """
    try:
        return await asyncio.to_thread(function, *args)
    except DataError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except sqlite3.Error as error:
        raise gr.Error(f"The page's database fails: {error}. Its log says more.") from error
