"""The chat: a conversation with one model at a time, and the list of all conversations of its user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.chat.answering.replies import Replies
from components.chat.client.servers import Servers
from components.chat.storage.conversations import Conversations
from components.chat.ui import scripts
from components.chat.ui.chat_components import ChatComponents
from components.chat.ui.conversation_events import ConversationEvents
from components.chat.ui.model_events import ModelEvents
from components.chat.ui.opinion_events import OpinionEvents
from components.chat.ui.reply_events import ReplyEvents


def draw_chat(
    page: gr.Blocks, servers: Servers, conversations: Conversations, replies: Replies, examples: Sequence[str]
) -> ChatComponents:
    """The components, drawn within a ``gr.Blocks``, with their events connected."""
    parts = ChatComponents(examples)

    def follow_shown(event: Any) -> None:
        """After ``event``, let the window follow the reply that it shows."""
        event.then(None, parts.followed, None, js=scripts.FOLLOW_SHOWN)

    models = ModelEvents(parts, servers, conversations, examples)
    ReplyEvents(parts, conversations, replies).connect(follow_shown)
    arrival = ConversationEvents(parts, conversations, replies, models).connect(page, follow_shown)
    models.connect(arrival)
    OpinionEvents(parts, conversations, replies).connect()
    return parts
