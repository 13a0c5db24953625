"""Answers to conversations: each is asked of a model, kept as it comes, and followed by the window that began it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from components.chat.answers import Answer, Message, ServerError, Settings, stream_answer
from components.chat.conversations import Conversation, Conversations, Turn
from components.chat.export import as_messages
from components.chat.look import sheet
from components.chat.running import Answering, Place, Running
from components.chat.servers import Model, Servers
from components.errors import DataError

GO_ON = "Go on exactly where you stopped, in the middle of a word if need be. Repeat nothing."
NOTHING_SERVED = "No model server answers at {}. Is it running? Press Retry to ask again."
SECONDS_TO_FOLLOW = 30.0


@dataclass(frozen=True)
class Asked:
    """What a person has chosen on the page when an answer begins."""

    conversation: str
    model: str
    system: str
    settings: Settings


class Replies:
    """The answers of all conversations, by the place where each was begun."""

    def __init__(self, servers: Servers, conversations: Conversations, running: Running) -> None:
        self._servers = servers
        self._conversations = conversations
        self._running = running
        # By conversation, whichever window of its user has it open.
        self._answered: dict[str, Answering] = {}
        # Until the window begins to follow.
        self._followed: dict[Place, tuple[Answering, _Keeper]] = {}

    def is_answered(self, conversation: str) -> bool:
        """True while an answer to the conversation runs, in this window or in another."""
        return conversation in self._answered and not self._answered[conversation].done

    def begin(self, place: Place, asked: Asked, opened: Conversation, *, goes_on: bool = False) -> None:
        """Ask the server for an answer to the last question, or to go on with the last answer."""
        _, user, _ = place
        keeper = _Keeper(self._conversations, user, opened, asked.model, goes_on=goes_on)
        messages = as_messages(opened.system, [(turn.role, turn.content) for turn in opened.turns])
        if goes_on:
            messages.append({"role": "user", "content": GO_ON})
        self._running.end(place, "leave")
        answering = self._running.start(place, self._answers(asked, messages, keeper), keeper.keep)
        self._answered = {known: one for known, one in self._answered.items() if not one.done}
        self._answered[opened.id] = answering
        self._followed[place] = (answering, keeper)
        asyncio.get_running_loop().call_later(SECONDS_TO_FOLLOW, self._forget, place, answering)

    async def follow(self, place: Place) -> AsyncGenerator[dict[str, Any] | None]:
        """What has come of the answer that was begun, as it comes; the browser puts it into the conversation."""
        answering, keeper = self._followed.pop(place, (None, None))
        if answering is None or keeper is None:
            return
        try:
            running = sheet(keeper.opened.turns, running=True)
            async for answer in answering.pieces(self._running):
                yield keeper.piece(answer, answer.in_words(), running)
            if answering.ending == "leave":
                yield None  # Gradio sends the last piece once more at the end
                return
            words = f"⚠ {answering.error}" if answering.error else answering.latest.in_words()
            yield keeper.piece(answering.latest, words, sheet(keeper.turns_with(answering.latest)))
        finally:
            answering.end("leave")  # the page was closed

    def stop(self, place: Place) -> None:
        """End the answer of a window; what has come is shown."""
        self._running.end(place, "stop")

    async def leave(self, place: Place) -> None:
        """End the answer of a window and show nothing more of it; returns when what has come is kept."""
        await self._running.leave(place)

    async def _answers(self, asked: Asked, messages: Sequence[Message], keeper: _Keeper) -> AsyncGenerator[Answer]:
        model = await self._model(asked.model)
        keeper.model = model.label
        async with aclosing(stream_answer(model.server, model.id, messages, asked.settings)) as answers:
            async for answer in answers:
                yield answer

    async def _model(self, label: str) -> Model:
        model = self._servers.known(label)
        if model is not None:
            return model
        models = await self._servers.models()
        if not models:
            raise ServerError(NOTHING_SERVED.format(self._servers.addresses))
        # A page that was opened before anything was served has no model to choose.
        model = next((model for model in models if model.label == label), None if label else models[0])
        if model is None:
            raise ServerError(f"{label!r} is not served now. Choose another model, or press Retry to ask again.")
        return model

    def _forget(self, place: Place, answering: Answering) -> None:
        """End an answer at which nobody looks: the page was closed before."""
        if self._followed.get(place, (None, None))[0] is answering:
            del self._followed[place]
            answering.end("leave")


class _Keeper:
    """Keeps one answer in its conversation, and knows how the conversation looks with it."""

    def __init__(
        self, conversations: Conversations, user: str, opened: Conversation, model: str, *, goes_on: bool
    ) -> None:
        self.opened, self.model = opened, model
        self._user = user
        self._conversations = conversations
        self._turns = opened.turns[:-1] if goes_on else opened.turns
        last = opened.turns[-1]
        self._earlier = last.answer if goes_on and last.answer is not None else Answer()
        self._turn = last.id if goes_on else None

    async def keep(self, answer: Answer) -> None:
        """Write the answer down, once there are words; not where the conversation was deleted meanwhile."""
        if answer.text:
            write = partial(self._conversations.answer, turn=self._turn)
            with suppress(DataError):
                whole = answer.behind(self._earlier)
                self._turn = await asyncio.to_thread(write, self._user, self.opened, self.model, whole)

    def turns_with(self, answer: Answer) -> tuple[Turn, ...]:
        """The conversation with the answer."""
        whole = answer.behind(self._earlier) if answer.text else self._earlier
        if not whole.text:
            return self._turns
        return (*self._turns, Turn(self._turn or 0, "assistant", whole.text, self.model, whole, None, ""))

    def piece(self, answer: Answer, words: str, sheet: str) -> dict[str, Any]:
        """What the page's script needs to show the answer behind the turns before it."""
        text = answer.behind(self._earlier).text or self._earlier.text
        return {
            "conversation": self.opened.id, "turns": len(self._turns), "text": text, "words": words, "sheet": sheet
        }  # fmt: skip
