"""Answers to conversations: each is asked of a model, kept as it comes, and followed by the windows that show it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial

from components.chat.client.completions import (
    Answer,
    ContextFull,
    Message,
    NotServed,
    ServerError,
    Settings,
    stream_answer,
)
from components.chat.client.fitting import shorter
from components.chat.client.running import Answering, Place, Running
from components.chat.client.servers import Model, Servers
from components.chat.storage.conversations import Conversation, Conversations, Turn
from components.chat.storage.export import as_messages
from components.chat.ui.assets import sheet
from components.chat.web.events import Piece
from components.errors import DataError

GO_ON = "Go on exactly where you stopped, in the middle of a word if need be. Repeat nothing."
# A window that begins to follow after the end is still told it.
SECONDS_TO_REMEMBER = 60.0
# With fewer tokens than that an answer is none.
FEWEST_TOKENS_LEFT = 128


@dataclass(frozen=True)
class Asked:
    """What a person has chosen on the page when an answer begins."""

    conversation: str
    model: str
    system: str
    settings: Settings


class Replies:
    """The answers of all conversations. Each goes on to its end, whether a window follows it or not."""

    def __init__(self, servers: Servers, conversations: Conversations, running: Running) -> None:
        self._servers = servers
        self._conversations = conversations
        self._running = running
        self._begun: dict[Place, tuple[Answering, _Keeper]] = {}
        # Where the part of a conversation begins that fits into a model's context: the id of a turn.
        self._first_sent: dict[tuple[str, str], int] = {}

    def is_answered(self, user: str, conversation: str) -> bool:
        """True while an answer to the conversation runs."""
        answering, _ = self._begun.get(_place(user, conversation), (None, None))
        return answering is not None and not answering.done

    def begin(self, user: str, asked: Asked, opened: Conversation, *, goes_on: bool = False) -> None:
        """Ask the server for an answer to the last question, or to go on with the last answer."""
        place = _place(user, opened.id)
        keeper = _Keeper(self._conversations, user, opened, asked.model, goes_on=goes_on)
        self._running.end(place, "leave")
        answering = self._running.start(place, self._answers(asked, opened, keeper, goes_on=goes_on), keeper.keep)
        remembered = time.monotonic() - SECONDS_TO_REMEMBER
        self._begun = {
            known: one for known, one in self._begun.items() if one[0].ended is None or one[0].ended > remembered
        }
        self._begun[place] = (answering, keeper)

    async def follow(self, user: str, conversation: str) -> AsyncGenerator[Piece]:
        """What has come of an answer, as it comes, if there is one; the browser puts it into the conversation."""
        answering, keeper = self._begun.get(_place(user, conversation), (None, None))
        if answering is None or keeper is None:
            return
        running = sheet(keeper.opened.turns, running=True)
        async for answer in answering.pieces(self._running):
            if not answering.done:
                yield keeper.piece(answer, keeper.words(answer), running)
        if answering.ending != "leave":
            answer = answering.latest
            words = f"⚠ {answering.error}" if answering.error else keeper.words(answer)
            # Whatever went wrong, another look at what is served may help.
            relist = bool(answering.error) or keeper.model != keeper.chosen
            yield {**keeper.piece(answer, words, sheet(keeper.turns_with(answer))), "done": True, "relist": relist}

    def stop(self, user: str, conversation: str) -> None:
        """End the answer to a conversation; what has come is shown."""
        self._running.end(_place(user, conversation), "stop")

    async def leave(self, user: str, conversation: str) -> None:
        """End the answer to a conversation and show nothing more of it; returns when what has come is kept."""
        await self._running.leave(_place(user, conversation))

    async def _answers(
        self, asked: Asked, opened: Conversation, keeper: _Keeper, *, goes_on: bool
    ) -> AsyncGenerator[Answer]:
        """The answer of the model that was chosen; of another one where it is gone, with less where all is too much."""
        settings, model = asked.settings, await self._model(asked.model)
        keeper.model = model.label
        first = self._first_sent.get((opened.id, model.label))
        ids = [turn.id for turn in opened.turns]
        turns = opened.turns[ids.index(first) :] if first in ids else opened.turns
        while True:
            keeper.n_left_out = len(opened.turns) - len(turns)
            try:
                messages = _messages(opened.system, turns, goes_on=goes_on)
                async with aclosing(stream_answer(model.server, model.id, messages, settings)) as answers:
                    async for answer in answers:
                        yield answer
                return
            except ContextFull as full:
                if full.of_answer and settings.max_tokens > FEWEST_TOKENS_LEFT:
                    settings = replace(settings, max_tokens=settings.max_tokens // 2)
                    continue
                turns = shorter(turns, n_needed=2 if goes_on else 1)
                if not turns:
                    raise ServerError(_too_long(full, goes_on=goes_on)) from full
                self._first_sent[opened.id, model.label] = turns[0].id
            except NotServed:
                other = await self._servers.instead_of(model)
                if other is None:
                    raise
                model = other
                keeper.model = model.label

    async def _model(self, label: str) -> Model:
        """The model of that label if one was ever listed; else one that is listed now."""
        model = self._servers.known(label)
        if model is not None:
            return model
        models = await self._servers.models()
        if not models:
            raise ServerError(self._servers.nothing_served)
        return next((model for model in models if model.label == label), models[0])


class _Keeper:
    """Keeps one answer in its conversation, and knows how the conversation looks with it."""

    def __init__(
        self, conversations: Conversations, user: str, opened: Conversation, model: str, *, goes_on: bool
    ) -> None:
        self.opened, self.model, self.chosen = opened, model, model
        self.n_left_out = 0
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

    def words(self, answer: Answer) -> str:
        """What is said of the answer, and what was done that it came at all."""
        told = [answer.in_words()]
        if self.n_left_out:
            told.append(f"the model's context is full: it did not read the {_oldest(self.n_left_out)}")
        if self.chosen and self.chosen != self.model:
            told.append(f"{self.chosen} is not there now: {self.model} answers")
        return " · ".join(told)

    def piece(self, answer: Answer, words: str, sheet: str) -> Piece:
        """What the page's script needs to show the answer behind the turns before it."""
        text = answer.behind(self._earlier).text or self._earlier.text
        if not text and answer.thoughts:
            text = "\n".join(f"> {line}" for line in answer.thoughts.splitlines())
        return {
            "conversation": self.opened.id, "turns": len(self._turns), "text": text, "words": words, "sheet": sheet,
            "done": False,
        }  # fmt: skip


def _place(user: str, conversation: str) -> Place:
    return "chat", user, conversation


def _messages(system: str, turns: Sequence[Turn], *, goes_on: bool) -> list[Message]:
    messages = as_messages(system, [(turn.role, turn.content) for turn in turns])
    return [*messages, {"role": "user", "content": GO_ON}] if goes_on else messages


def _oldest(n_turns: int) -> str:
    return "oldest message" if n_turns == 1 else f"{n_turns} oldest messages"


def _too_long(full: ContextFull, *, goes_on: bool) -> str:
    if goes_on:
        return f"{full}. The model cannot go on with this answer; ask something else."
    return (
        f"{full}. Your message alone is too long for this model: edit it and make it shorter, or choose another model."
    )
