"""The list of conversations: opening, renaming, emptying, deleting and exporting them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import gradio as gr

from components.chat.answering.replies import Replies
from components.chat.storage.conversations import Conversations
from components.chat.storage.export import as_markdown, as_rows, file_name
from components.chat.ui import scripts
from components.chat.ui.chat_components import ChatComponents
from components.chat.ui.gradio_workarounds.messages import chat_update
from components.chat.ui.gradio_workarounds.show_errors import show_errors
from components.chat.ui.gradio_workarounds.state_css import state_css
from components.chat.ui.handlers import QUICK, Updates, in_thread, user_of
from components.chat.ui.model_events import ModelEvents


class ConversationEvents:
    """Connects the events to their handlers."""

    def __init__(
        self, parts: ChatComponents, conversations: Conversations, replies: Replies, models: ModelEvents
    ) -> None:
        self._parts = parts
        self._conversations = conversations
        self._replies = replies
        self._models = models
        self._report = partial(show_errors, parts.status)

    def connect(self, page: gr.Blocks, follow_shown: Callable[[Any], None]) -> gr.events.Dependency:
        """Connect them; ``follow_shown`` lets the window follow the reply that runs. Returns the event of arrival."""
        parts, report = self._parts, self._report
        opened = [*parts.shown, parts.conversation, parts.model, parts.system]
        arrived = [*opened, parts.models]
        arrival = page.load(report(self._arrive), [parts.conversation], arrived, js=scripts.ARRIVE, **QUICK)
        arrival.then(None, parts.followed, None, js=scripts.FOLLOW_ARRIVED)
        follow_shown(parts.list.input(report(self._open), [parts.list], opened, **QUICK))
        follow_shown(parts.reopen.click(report(self._open), [parts.conversation], opened, **QUICK))
        named = [parts.list, parts.title]
        parts.conversation.change(self._list, [parts.conversation], named, **QUICK)
        parts.title.submit(report(self._rename), [parts.conversation, parts.title], [*named, parts.status], **QUICK)
        # Emptied in the browser, not when the server responds: who types fast would ask in the conversation before.
        parts.new.click(None, None, [*parts.shown, parts.conversation], js=scripts.EMPTY)
        for clicks, handler, question in (
            ([parts.clear.click, parts.chatbot.clear], self._clear, "Empty this conversation? It keeps its title."),
            ([parts.delete.click], self._delete, "Delete this conversation, and what you thought of it?"),
        ):
            confirm = scripts.confirm(question)
            follow_shown(gr.on(clicks, report(handler), [parts.conversation], opened, js=confirm, **QUICK))
        self._connect_exports()
        return arrival

    def _connect_exports(self) -> None:
        parts = self._parts
        saved = [parts.file_name, parts.file_text, parts.status]
        for button, kind in ((parts.save_markdown, "md"), (parts.save_rows, "jsonl")):
            export = button.click(self._report(self._export(kind)), [parts.conversation], saved, **QUICK)
            # Only after success: else the file of the last export would be saved again.
            export.success(None, [parts.file_name, parts.file_text], [parts.file_name], js=scripts.SAVE)

    async def _arrive(self, conversation: str, request: gr.Request) -> Updates:
        """The page as it was left: the conversation that this window showed, or the user's last one."""
        user = user_of(request)
        known = [known for _, known in await in_thread(self._conversations.titles, user)]
        # A page that is loaded is empty; emptying it again would remove a question that was asked meanwhile.
        if not known:
            return {self._parts.status: gr.skip()}
        # With the models as they were listed last; they are listed again in a moment.
        opened = await self._opened(user, conversation if conversation in known else known[0])
        return {**opened, **self._models.known()}

    async def _open(self, conversation: str, request: gr.Request) -> Updates:
        return {**self._empty(), **await self._opened(user_of(request), conversation)}

    async def _opened(self, user: str, conversation: str) -> Updates:
        parts, opened = self._parts, await in_thread(self._conversations.load, user, conversation)
        running = self._replies.is_running(user, conversation)
        return {
            parts.chatbot: chat_update(opened.turns),
            parts.state_css: state_css(opened.turns, running=running),
            parts.conversation: conversation,
            parts.status: "",
            parts.system: opened.system,
            **self._models.choose_for(opened.turns),
        }

    async def _list(self, conversation: str, request: gr.Request) -> tuple[Any, str]:
        """All conversations of the user, and the title of the one that is open."""
        titles = await in_thread(self._conversations.titles, user_of(request))
        title = next((title for title, known in titles if known == conversation), "")
        return gr.update(choices=titles, value=conversation or None), title

    async def _rename(self, conversation: str, title: str, request: gr.Request) -> Updates:
        parts = self._parts
        if not conversation:
            return {parts.status: "There is no conversation to rename yet."}
        if not title.strip():
            return {parts.status: "Write a title first."}
        await in_thread(self._conversations.rename, user_of(request), conversation, title.strip())
        titles, title = await self._list(conversation, request)
        return {parts.list: titles, parts.title: title, parts.status: "Renamed."}

    async def _clear(self, conversation: str, request: gr.Request) -> Updates:
        if not conversation:
            return {self._parts.status: gr.skip()}
        await self._replies.leave(user_of(request), conversation)
        await in_thread(self._conversations.clear, user_of(request), conversation)
        return {**self._empty(), self._parts.conversation: conversation}

    async def _delete(self, conversation: str, request: gr.Request) -> Updates:
        if not conversation:
            return {self._parts.status: gr.skip()}
        await self._replies.leave(user_of(request), conversation)
        await in_thread(self._conversations.delete, user_of(request), conversation)
        return self._empty()

    def _empty(self) -> Updates:
        parts = self._parts
        return {
            parts.chatbot: chat_update(()),
            parts.status: "",
            parts.state_css: state_css(()),
            parts.conversation: "",
        }

    def _export(self, kind: str) -> Callable[..., Awaitable[Updates]]:
        async def export(conversation: str, request: gr.Request) -> Updates:
            parts = self._parts
            if not conversation:
                return {parts.status: "There is no conversation to export yet."}
            opened = await in_thread(self._conversations.load, user_of(request), conversation)
            if not opened.turns:
                return {parts.status: "This conversation has no messages yet."}
            text = as_markdown(opened) if kind == "md" else as_rows(opened)
            return {parts.file_name: file_name(opened, kind), parts.file_text: text}

        return export
