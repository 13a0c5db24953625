"""What waits for the disk is done in a thread; what goes wrong there is said on the page."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
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
