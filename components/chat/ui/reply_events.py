"""Events that start or stop a reply: Send, an example, an edited question, Retry, Go on, Stop."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from components.chat.answering.replies import Replies, ReplyRequest
from components.chat.storage.conversations import Conversation, Conversations
from components.chat.ui import scripts
from components.chat.ui.chat_components import ChatComponents
from components.chat.ui.chat_values import reply_request, turn_at
from components.chat.ui.gradio_workarounds.messages import chat_messages, chat_update
from components.chat.ui.gradio_workarounds.show_errors import show_errors
from components.chat.ui.gradio_workarounds.state_css import state_css
from components.chat.ui.handlers import QUICK, Updates, in_thread, user_of

NOTHING_ASKED = "There is nothing to ask again."
# For a retry if the settings say 0, at which the model would repeat its answer.
RETRY_TEMPERATURE = 0.7


class ReplyEvents:
    """Connects the events to their handlers."""

    def __init__(self, parts: ChatComponents, conversations: Conversations, replies: Replies) -> None:
        self._parts = parts
        self._conversations = conversations
        self._replies = replies

    def connect(self, follow_shown: Callable[[Any], None]) -> None:
        """Connect them; ``follow_shown`` lets the window follow the reply that an event has started."""
        parts, report = self._parts, partial(show_errors, self._parts.status)
        # Gradio builds a component anew for an update of more than its value, and for each output that is left out;
        # and it checks each value in a thread of its own. These events happen for each question, so they have few
        # outputs and unchecked values: with many users, each waits for what all of them cost. The question is no
        # output: the page's script empties it as it is sent, and what is typed afterwards stays.
        started = [*parts.shown, parts.conversation, parts.accepted]
        options = {**QUICK, "preprocess": False, "postprocess": False}
        asking = [parts.question, parts.accepted, *parts.chosen]
        sends, retries = [parts.question.submit, parts.send.click], [parts.retry.click, parts.chatbot.retry]
        unfollow = {**options, "js": scripts.UNFOLLOW}
        for event in (
            gr.on(sends, report(self._send), asking, started, js=scripts.SEND, **options),
            parts.chatbot.example_select(report(self._send_example), parts.chosen, started, **unfollow),
            parts.chatbot.edit(report(self._edit), parts.chosen, started, **unfollow),
            gr.on(retries, report(self._retry), parts.chosen, started, **unfollow),
            parts.go_on.click(report(self._continue), parts.chosen, started, **options),
        ):
            follow_shown(event)
        drawn = [parts.conversation, *parts.shown]
        parts.draw_reply.click(None, drawn, parts.shown, js=scripts.DRAW_REPLY, trigger_mode="multiple")
        parts.stop.click(self._stop, [parts.conversation], None, **QUICK)

    async def _send(self, question: str, _accepted: str, request: gr.Request, *chosen: Any) -> Updates:
        if not question.strip():
            return {self._parts.status: "Write something first."}
        return await self._ask(question.strip(), chosen, request)

    async def _send_example(self, request: gr.Request, example: gr.SelectData, *chosen: Any) -> Updates:
        return await self._ask(example.value["text"], chosen, request)

    async def _edit(self, request: gr.Request, edited: gr.EditData, *chosen: Any) -> Updates:
        conversation = reply_request(chosen).conversation
        opened = await in_thread(self._conversations.load, user_of(request), conversation)
        question = edited.value if isinstance(edited.value, str) else str(edited.value.get("text", ""))
        turn = turn_at(opened, edited.index, edited.previous_value)
        return await self._ask(question.strip(), chosen, request, replaces=turn.id)

    async def _ask(
        self, question: str, chosen: Sequence[Any], request: gr.Request, *, replaces: int | None = None
    ) -> Updates:
        """Add a question, at the end or instead of the turn ``replaces``, and start the reply."""
        asked, user = reply_request(chosen), user_of(request)
        await self._replies.leave(user, asked.conversation)
        add = partial(self._conversations.add_question, replaces=replaces)
        opened = await in_thread(add, user, asked.conversation, question, asked.system)
        return self._start(user, asked, opened, replaces_answer=replaces is not None)

    async def _retry(self, request: gr.Request, *chosen: Any) -> Updates:
        asked, user = reply_request(chosen), user_of(request)
        if not asked.conversation:
            return {self._parts.status: NOTHING_ASKED}
        await self._replies.leave(user, asked.conversation)
        before = await in_thread(self._conversations.load, user, asked.conversation)
        opened = await in_thread(self._conversations.rewind, user, asked.conversation, asked.system)
        if not opened.turns:
            return {self._parts.status: NOTHING_ASKED}
        if before.turns != opened.turns and asked.settings.temperature == 0:
            asked = replace(asked, settings=replace(asked.settings, temperature=RETRY_TEMPERATURE))
        return self._start(user, asked, opened, replaces_answer=True)

    async def _continue(self, request: gr.Request, *chosen: Any) -> Updates:
        asked, user = reply_request(chosen), user_of(request)
        opened = await in_thread(self._conversations.load, user, asked.conversation) if asked.conversation else None
        if opened is not None and self._replies.is_running(user, opened.id):
            # Another window has started it; this one follows it, too.
            return {self._parts.state_css: state_css(opened.turns, running=True)}
        if opened is None or not opened.turns or opened.turns[-1].completion is None:
            return {self._parts.status: "There is nothing to go on with."}
        return self._start(user, asked, replace(opened, system=asked.system), continues=True)

    def _start(
        self, user: str, asked: ReplyRequest, opened: Conversation, *, continues: bool = False,
        replaces_answer: bool = False,
    ) -> Updates:  # fmt: skip
        """Start the reply. If it ``replaces_answer``, the mark of that answer must go from the chatbot."""
        self._replies.start(user, asked, opened, continues=continues)
        has_marks = replaces_answer or any(turn.liked is not None for turn in opened.turns)
        return {
            self._parts.chatbot: chat_update(opened.turns) if has_marks else chat_messages(opened.turns),
            self._parts.status: "Reading your prompt…",
            self._parts.state_css: state_css(opened.turns, running=True),
            self._parts.conversation: opened.id,
            self._parts.accepted: uuid.uuid4().hex,
        }

    async def _stop(self, conversation: str, request: gr.Request) -> None:
        self._replies.stop(user_of(request), conversation)
