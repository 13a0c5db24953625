"""The page: what a person sees and presses. Nothing on it comes from another host."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from components.chat.client.comparing import Comparing
from components.chat.client.replies import Replies
from components.chat.client.servers import Servers
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.conversations import Conversations
from components.chat.ui.chat_view import ChatView
from components.chat.ui.compare_view import CompareView, VotesView
from components.chat.ui.scripts import SCRIPT

# Gradio looks for queued work a thousand times a second, and there is none.
SECONDS_BETWEEN_LOOKS = 1.0


def build_page(
    servers: Servers, conversations: Conversations, replies: Replies, comparisons: Comparisons, comparing: Comparing,
    title: str, examples: Sequence[str],
) -> gr.Blocks:  # fmt: skip
    """The page over some servers. None of its events queues: what takes long is followed apart from Gradio."""
    with gr.Blocks(title=title, analytics_enabled=False, fill_height=True) as page:
        page.load(None, js=SCRIPT)
        gr.Markdown(f"## {title}", elem_id="heading")
        with gr.Tab("Chat"):
            ChatView(servers, conversations, replies, examples).draw(page)
        with gr.Tab("Compare") as compare:
            CompareView(servers, comparisons, comparing).draw(page, compare)
        with gr.Tab("Votes") as votes:
            VotesView(comparisons).draw(page, votes)
    page._queue.sleep_when_free = SECONDS_BETWEEN_LOOKS
    return page
