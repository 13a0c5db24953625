"""The page with its tabs. It loads nothing from another host."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from components.chat.answering.comparing import RunningComparisons
from components.chat.answering.replies import Replies
from components.chat.client.servers import Servers
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.conversations import Conversations
from components.chat.ui.chat_view import draw_chat
from components.chat.ui.compare_view import CompareView
from components.chat.ui.gradio_workarounds.components import poll_queue_rarely
from components.chat.ui.scripts import SCRIPT
from components.chat.ui.votes_view import draw_votes


def build_page(
    servers: Servers, conversations: Conversations, replies: Replies, comparisons: Comparisons,
    running_comparisons: RunningComparisons, title: str, examples: Sequence[str],
) -> gr.Blocks:  # fmt: skip
    """The page over some servers. None of its events queues: answers run and are followed outside of Gradio."""
    with gr.Blocks(title=title, analytics_enabled=False, fill_height=True) as page:
        page.load(None, js=SCRIPT)
        gr.Markdown(f"## {title}", elem_id="heading")
        with gr.Tab("Chat"):
            draw_chat(page, servers, conversations, replies, examples)
        with gr.Tab("Compare") as compare:
            CompareView(servers, comparisons, running_comparisons).connect(page, compare)
        with gr.Tab("Votes") as votes:
            draw_votes(comparisons, page, votes)
    poll_queue_rarely(page)
    return page
