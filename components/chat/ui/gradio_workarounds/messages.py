"""A chatbot's messages and marks in the form that Gradio's own script uses.

Gradio 6.31 checks and converts each value of an event in a thread of its own, unless the event has
``postprocess=False``; then the handler must return what the browser expects. With many users, each waits for what the
conversions of all of them cost. No upstream issue known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.chat.storage.conversations import ChatTurn


def chat_messages(turns: Sequence[ChatTurn]) -> list[dict[str, Any]]:
    """The turns as messages; ``scripts.DRAW_REPLY`` makes such a message, too."""
    return [
        {"role": turn.role, "metadata": None, "content": [{"type": "text", "text": turn.content}], "options": None}
        for turn in turns
    ]


def chat_update(turns: Sequence[ChatTurn]) -> Any:
    """The chatbot with these turns and their marks; slower than the turns alone, which leave the marks as they are."""
    return gr.update(value=chat_messages(turns), feedback_value=marks(turns))


def marks(turns: Sequence[ChatTurn]) -> list[str | None]:
    """Gradio's name for the user's opinion of each answer."""
    liked = [turn.liked for turn in turns if turn.role == "assistant"]
    return [None if opinion is None else "Like" if opinion else "Dislike" for opinion in liked]


def liked_by_mark(mark: Any) -> bool | None:
    """The user's opinion from Gradio's name for it; None if the mark was removed."""
    return {"Like": True, "Dislike": False, True: True, False: False}.get(mark)
