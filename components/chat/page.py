"""The page: what a person sees and presses. Nothing on it comes from another host."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from components.chat.chat_view import ChatView
from components.chat.compare_view import CompareView, VotesView
from components.chat.comparisons import Comparisons
from components.chat.conversations import Conversations
from components.chat.database import Database
from components.chat.look import SCRIPT
from components.chat.running import Running
from components.chat.servers import Servers

# Gradio's own bound is 40: the next person would wait for one of them to be answered.
ANSWERS_AT_ONCE = 500
# Gradio looks for work a thousand times a second, which is a twelfth of a core while nobody is there.
SECONDS_BETWEEN_LOOKS = 0.005


def build_page(
    servers: Servers, database: Database, running: Running, title: str, examples: Sequence[str]
) -> gr.Blocks:
    """The page over some servers; what is said on it is kept in the database."""
    comparisons = Comparisons(database)
    with gr.Blocks(title=title, analytics_enabled=False, fill_height=True) as page:
        gr.Markdown(f"## {title}")
        with gr.Tab("Chat"):
            ChatView(servers, Conversations(database), running, examples).draw(page)
        with gr.Tab("Compare"):
            CompareView(servers, comparisons, running).draw(page)
        with gr.Tab("Votes") as votes:
            VotesView(comparisons).draw(page, votes)
        page.load(None, js=SCRIPT)
    page.max_threads = ANSWERS_AT_ONCE
    page.queue(default_concurrency_limit=None)
    page._queue.sleep_when_free = SECONDS_BETWEEN_LOOKS
    return page
