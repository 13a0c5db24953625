"""One reply in its conversation: saving it, and the conversation as it is with the reply."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from components.chat.storage.completion import Completion
from components.chat.storage.conversations import ChatTurn, Conversation, Conversations
from components.errors import DataError


class ReplyRecorder:
    """Saves a reply and describes it. ``model`` is the label of the model that answers, ``chosen`` the user's choice.

    ``continues``: the reply is appended to the last answer of the conversation.
    """

    def __init__(
        self, conversations: Conversations, user: str, opened: Conversation, model: str, *, continues: bool
    ) -> None:
        self.opened, self.model, self.chosen = opened, model, model
        self.n_left_out = 0
        self._user = user
        self._conversations = conversations
        self.turns_before = opened.turns[:-1] if continues else opened.turns
        last = opened.turns[-1]
        self._earlier = last.completion if continues and last.completion is not None else Completion()
        self._turn = last.id if continues else None

    async def save(self, completion: Completion) -> None:
        """Store the reply once it has text, unless the conversation has been deleted."""
        if completion.text:
            write = partial(self._conversations.save_answer, turn=self._turn)
            with suppress(DataError):
                whole = completion.appended_to(self._earlier)
                self._turn = await asyncio.to_thread(write, self._user, self.opened, self.model, whole)

    def turns_with(self, completion: Completion) -> tuple[ChatTurn, ...]:
        """The turns of the conversation, including the reply."""
        whole = completion.appended_to(self._earlier) if completion.text else self._earlier
        if not whole.text:
            return self.turns_before
        return (*self.turns_before, ChatTurn(self._turn or 0, "assistant", whole.text, self.model, whole, None, ""))

    def text(self, completion: Completion) -> str:
        """The text of the reply; before there is any, the model's reasoning as a quotation."""
        text = completion.appended_to(self._earlier).text or self._earlier.text
        if not text and completion.reasoning:
            return "\n".join(f"> {line}" for line in completion.reasoning.splitlines())
        return text

    def status(self, completion: Completion) -> str:
        """The status line, with the messages that were left out and the model that answers instead, if any."""
        parts = [completion.status_line()]
        if self.n_left_out:
            parts.append(f"the model's context is full: it did not read the {_oldest(self.n_left_out)}")
        if self.chosen and self.chosen != self.model:
            parts.append(f"{self.chosen} is not available now: {self.model} answers")
        return " · ".join(parts)


def _oldest(n_turns: int) -> str:
    return "oldest message" if n_turns == 1 else f"{n_turns} oldest messages"
