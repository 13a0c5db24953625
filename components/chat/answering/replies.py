"""Replies to conversations: each is requested from a model, saved as it grows, and followed by windows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from components.chat.answering.fitting import shortened
from components.chat.answering.recent import Recent
from components.chat.answering.reply_recorder import ReplyRecorder
from components.chat.answering.running import AnswerKey, RunningAnswer, RunningAnswers
from components.chat.client.completions import Message, stream_completion
from components.chat.client.errors import ContextFullError, NotServedError, ServerError
from components.chat.client.servers import ChatModel, Servers
from components.chat.client.settings import Settings
from components.chat.storage.completion import Completion
from components.chat.storage.conversations import ChatTurn, Conversation, Conversations
from components.chat.storage.export import as_messages

CONTINUE = "Go on exactly where you stopped, in the middle of a word if need be. Repeat nothing."
SECONDS_TO_REMEMBER = 60.0
# A request for fewer tokens than that is not worth repeating.
FEWEST_TOKENS = 128


@dataclass(frozen=True)
class ReplyRequest:
    """What is chosen on the page when a reply begins; ``model`` is a label."""

    conversation: str
    model: str
    system: str
    settings: Settings


@dataclass(frozen=True)
class ReplySnapshot:
    """A reply at one moment. ``n_turns_before`` turns of the conversation precede it; ``turns`` includes it at the end.

    ``relist``: another model answered, or none, so the page should list the models again.
    """

    conversation: str
    n_turns_before: int
    text: str
    status: str
    turns: tuple[ChatTurn, ...]
    done: bool = False
    relist: bool = False


@dataclass(frozen=True)
class Reply:
    """A reply that runs, or has ended a short while ago."""

    answer: RunningAnswer
    recorder: ReplyRecorder

    @property
    def ended(self) -> float | None:
        """When it ended, by the monotonic clock; None while it runs."""
        return self.answer.ended

    def snapshot(self, completion: Completion) -> ReplySnapshot:
        """The reply while it runs."""
        recorder = self.recorder
        return ReplySnapshot(
            recorder.opened.id, len(recorder.turns_before), recorder.text(completion), recorder.status(completion),
            recorder.opened.turns,
        )  # fmt: skip

    def last_snapshot(self) -> ReplySnapshot:
        """The reply at its end."""
        recorder, completion, error = self.recorder, self.answer.latest, self.answer.error
        return replace(
            self.snapshot(completion),
            status=f"⚠ {error}" if error else recorder.status(completion),
            turns=recorder.turns_with(completion),
            done=True,
            relist=bool(error) or recorder.model != recorder.chosen,
        )


class Replies:
    """The replies of all conversations. Each runs to its end, whether a window follows it or not."""

    def __init__(self, servers: Servers, conversations: Conversations, running: RunningAnswers) -> None:
        self._servers = servers
        self._conversations = conversations
        self._running = running
        self._replies: Recent[Reply] = Recent(SECONDS_TO_REMEMBER)
        # The id of the first turn that fits into the context, by conversation and model label.
        self._first_sent: dict[tuple[str, str], int] = {}

    def is_running(self, user: str, conversation: str) -> bool:
        """True while a reply to the conversation runs."""
        reply = self._replies.get(user, conversation)
        return reply is not None and not reply.answer.done

    def start(self, user: str, request: ReplyRequest, opened: Conversation, *, continues: bool = False) -> None:
        """Request an answer to the last question, or the continuation of the last answer."""
        key = _key(user, opened.id)
        recorder = ReplyRecorder(self._conversations, user, opened, request.model, continues=continues)
        self._running.end(key, "leave")
        completions = self._completions(request, opened, recorder, continues=continues)
        answer = self._running.start(key, completions, recorder.save)
        self._replies.add(user, opened.id, Reply(answer, recorder))

    async def follow(self, user: str, conversation: str) -> AsyncGenerator[ReplySnapshot]:
        """The reply to a conversation as it grows; nothing if there is none."""
        reply = self._replies.get(user, conversation)
        if reply is None:
            return
        async for completion in reply.answer.states(self._running):
            if not reply.answer.done:
                yield reply.snapshot(completion)
        if reply.answer.end_reason != "leave":
            yield reply.last_snapshot()

    def stop(self, user: str, conversation: str) -> None:
        """End the reply to a conversation; windows get what has come."""
        self._running.end(_key(user, conversation), "stop")

    async def leave(self, user: str, conversation: str) -> None:
        """End the reply to a conversation and show nothing more of it; returns once it is saved."""
        await self._running.leave(_key(user, conversation))

    async def _completions(
        self, request: ReplyRequest, opened: Conversation, recorder: ReplyRecorder, *, continues: bool
    ) -> AsyncGenerator[Completion]:
        """The reply of the chosen model, or of another one if that is gone; with fewer turns if not all fit."""
        settings, model = request.settings, await self._model(request.model)
        recorder.model = model.label
        turns = self._turns_that_fit(opened, model)
        while True:
            recorder.n_left_out = len(opened.turns) - len(turns)
            try:
                messages = _messages(opened.system, turns, continues=continues)
                async with aclosing(stream_completion(model.server, model.id, messages, settings)) as completions:
                    async for completion in completions:
                        yield completion
                return
            except ContextFullError as full:
                if full.names_max_tokens and settings.max_tokens > FEWEST_TOKENS:
                    settings = replace(settings, max_tokens=settings.max_tokens // 2)
                    continue
                turns = shortened(turns, n_needed=2 if continues else 1)
                if not turns:
                    raise ServerError(_too_long(full, continues=continues)) from full
                self._first_sent[opened.id, model.label] = turns[0].id
            except NotServedError:
                other = await self._servers.replacement_for(model)
                if other is None:
                    raise
                model = other
                recorder.model = model.label

    def _turns_that_fit(self, opened: Conversation, model: ChatModel) -> Sequence[ChatTurn]:
        """The turns that fitted into the model's context last time, and all later ones."""
        first = self._first_sent.get((opened.id, model.label))
        ids = [turn.id for turn in opened.turns]
        return opened.turns[ids.index(first) :] if first in ids else opened.turns

    async def _model(self, label: str) -> ChatModel:
        """The model with that label if it was ever listed, else the first one that is listed now."""
        model = self._servers.known(label)
        if model is not None:
            return model
        models = await self._servers.models()
        if not models:
            raise ServerError(self._servers.nothing_served)
        return next((model for model in models if model.label == label), models[0])


def _key(user: str, conversation: str) -> AnswerKey:
    return "chat", user, conversation


def _messages(system: str, turns: Sequence[ChatTurn], *, continues: bool) -> list[Message]:
    messages = as_messages(system, [(turn.role, turn.content) for turn in turns])
    return [*messages, {"role": "user", "content": CONTINUE}] if continues else messages


def _too_long(full: ContextFullError, *, continues: bool) -> str:
    if continues:
        return f"{full}. The model cannot go on with this answer; ask something else."
    return (
        f"{full}. Your message alone is too long for this model: edit it and make it shorter, or choose another model."
    )
