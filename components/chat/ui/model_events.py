"""The choice of a model, with its examples and settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import gradio as gr

from components.chat.client.servers import Servers
from components.chat.storage.conversations import ChatTurn, Conversations
from components.chat.ui import scripts
from components.chat.ui.chat_components import ChatComponents
from components.chat.ui.chat_values import last_model, models_json
from components.chat.ui.gradio_workarounds.show_errors import show_errors
from components.chat.ui.handlers import QUICK, Updates, in_thread, user_of


class ModelEvents:
    """Lists the models, and chooses the one of an opened conversation. ``examples`` replace those of the models."""

    def __init__(
        self, parts: ChatComponents, servers: Servers, conversations: Conversations, examples: Sequence[str]
    ) -> None:
        self._parts = parts
        self._servers = servers
        self._conversations = conversations
        self._examples = examples

    def connect(self, arrival: gr.events.Dependency) -> None:
        """Connect the events; the models are listed after ``arrival``, since a server that hangs is waited for."""
        parts, report = self._parts, partial(show_errors, self._parts.status)
        options = {**QUICK, "preprocess": False}
        chosen, listed = [parts.conversation, parts.model], [parts.models, parts.model]
        arrival.then(report(self._list), chosen, [*listed, parts.status], **options)
        parts.relist.click(report(self._relist), chosen, listed, **options)
        # Also for a choice by the page itself, after it is loaded or a conversation is opened. It runs in the browser.
        followed = [parts.chatbot, parts.default_sliders, *parts.sliders]
        current = [parts.model, parts.models, parts.default_sliders, *parts.sliders]
        parts.model.change(None, current, followed, js=scripts.FOLLOW_MODEL)

    def known(self) -> Updates:
        """Examples and settings of the models that were listed at some time."""
        return {self._parts.models: models_json(self._servers.all_known, self._examples)}

    def choose_for(self, turns: Sequence[ChatTurn]) -> Updates:
        """Choose the model that answered last in a conversation, if it is served."""
        labels = [model.label for model in self._servers.listed]
        last = last_model(turns, labels)
        return {self._parts.model: gr.update(choices=labels, value=last)} if last else {}

    async def _list(self, conversation: str, model: str, request: gr.Request) -> Updates:
        """The models that are served now, and a message if servers are missing."""
        updates = await self._relist(conversation, model, request)
        if not self._servers.listed:
            updates[self._parts.status] = f"⚠ {self._servers.nothing_served}"
        elif self._servers.missing:
            updates[self._parts.status] = f"⚠ {self._servers.missing}"
        return updates

    async def _relist(self, conversation: str, model: str, request: gr.Request) -> Updates:
        labels = [listed.label for listed in await self._servers.models()]
        if model not in labels:
            user = user_of(request)
            turns = (await in_thread(self._conversations.load, user, conversation)).turns if conversation else ()
            model = last_model(turns, labels) or next(iter(labels), "")
        return {**self.known(), self._parts.model: gr.update(choices=labels, value=model or None)}
