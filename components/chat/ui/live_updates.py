"""Running answers as the JSON that ``page.js`` and ``scripts.py`` draw."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from components.chat.answering.comparing import RunningComparisons
from components.chat.answering.replies import Replies
from components.chat.ui.gradio_workarounds.state_css import state_css


class LiveUpdates:
    """Snapshots of answers by user and id, each a new dict."""

    def __init__(self, replies: Replies, comparisons: RunningComparisons) -> None:
        self._replies = replies
        self._comparisons = comparisons

    async def reply(self, user: str, conversation: str) -> AsyncGenerator[dict[str, Any]]:
        """The reply to a conversation; its text follows after ``n_turns`` messages of the chatbot."""
        turns, css = None, ""
        async with aclosing(self._replies.follow(user, conversation)) as snapshots:
            async for snapshot in snapshots:
                # The CSS is the same while an answer grows, and would cost time for each of many users.
                if snapshot.turns is not turns or snapshot.done:
                    turns, css = snapshot.turns, state_css(snapshot.turns, running=not snapshot.done)
                values = {
                    "conversation": snapshot.conversation, "n_turns": snapshot.n_turns_before, "text": snapshot.text,
                    "status": snapshot.status, "state_css": css, "done": snapshot.done,
                }  # fmt: skip
                yield {**values, "relist": snapshot.relist} if snapshot.done else values

    async def comparison(self, user: str, name: str) -> AsyncGenerator[dict[str, Any]]:
        """A comparison; the text of each letter is under that letter, so that it can grow by deltas."""
        async with aclosing(self._comparisons.follow(user, name)) as snapshots:
            async for snapshot in snapshots:
                yield {
                    "status": snapshot.status, "letters": list(snapshot.texts), "done": snapshot.done,
                    "headings": snapshot.headings, **snapshot.texts,
                }  # fmt: skip
