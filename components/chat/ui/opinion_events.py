"""Opinions on answers: Like, Dislike, and a note on why."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import gradio as gr

from components.chat.answering.replies import Replies
from components.chat.storage.conversations import Conversation, Conversations
from components.chat.ui.chat_components import ChatComponents
from components.chat.ui.chat_values import turn_at
from components.chat.ui.gradio_workarounds.messages import liked_by_mark, marks
from components.chat.ui.gradio_workarounds.show_errors import show_errors
from components.chat.ui.gradio_workarounds.state_css import state_css
from components.chat.ui.handlers import QUICK, Updates, in_thread, user_of


class OpinionEvents:
    """Connects the events to their handlers."""

    def __init__(self, parts: ChatComponents, conversations: Conversations, replies: Replies) -> None:
        self._parts = parts
        self._conversations = conversations
        self._replies = replies

    def connect(self) -> None:
        """Connect them."""
        parts, report = self._parts, partial(show_errors, self._parts.status)
        parts.chatbot.like(report(self._rate), [parts.conversation], [parts.rated, parts.note, *parts.shown], **QUICK)
        noted = [parts.conversation, parts.rated, parts.note]
        parts.note.submit(report(self._note), noted, [parts.status, parts.state_css], **QUICK)

    async def _rate(self, conversation: str, like: gr.LikeData, request: gr.Request) -> Updates:
        parts, user = self._parts, user_of(request)
        opened = await in_thread(self._conversations.load, user, conversation)
        liked, turn = liked_by_mark(like.liked), turn_at(opened, like.index, like.value)
        await in_thread(self._conversations.rate, user, turn.id, liked)
        turns = [replace(known, liked=liked) if known is turn else known for known in opened.turns]
        return {
            parts.rated: str(turn.id),
            parts.note: turn.note,
            parts.status: {True: "Noted: a good answer.", False: "Noted: a bad answer.", None: "Taken back."}[liked],
            parts.state_css: self._state_css(user, opened, asks_why=liked is not None),
            # Only the marks, not the messages: an answer may be growing.
            parts.chatbot: gr.update(feedback_value=marks(turns)),
        }

    async def _note(self, conversation: str, rated: str, note: str, request: gr.Request) -> Updates:
        parts, user = self._parts, user_of(request)
        if rated.isdecimal():
            await in_thread(self._conversations.set_note, user, int(rated), note.strip())
        opened = await in_thread(self._conversations.load, user, conversation)
        return {parts.state_css: self._state_css(user, opened), parts.status: "Thank you; your note is saved."}

    def _state_css(self, user: str, opened: Conversation, *, asks_why: bool = False) -> str:
        return state_css(opened.turns, running=self._replies.is_running(user, opened.id), asks_why=asks_why)
