"""Comparisons that run: each goes on to its end and is kept, and windows follow all its answers at once."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from components.chat.client.completions import Answer, Settings, stream_answer
from components.chat.client.running import Answering, Place, Running
from components.chat.client.servers import Model
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.export import as_messages
from components.chat.web.events import Piece

LETTERS = "ABCD"
FAILED = "This model cannot answer now."
# Who is who is sent to no window before the vote.
BLIND = "Vote: names and figures are told after the vote."
SECONDS_TO_REMEMBER = 3600.0


@dataclass(frozen=True)
class Column:
    """One model's side of a comparison."""

    model: Model
    answering: Answering

    def head(self, letter: str, *, blind: bool) -> str:
        """Who it is, and how fast."""
        return f"**{letter}**" if blind else told(letter, self.model.label, self.answering.latest)

    def text(self, *, blind: bool) -> str:
        """What the column shows; the words of an error may name the server."""
        error = self.answering.error
        error = FAILED if blind and error else error
        return "\n\n".join(filter(None, (self.answering.latest.text, error and f"⚠ {error}"))) or "…"


@dataclass
class Comparison:
    """What was asked of whom."""

    prompt: str
    system: str
    blind: bool
    columns: dict[str, Column]
    begun: float = field(default_factory=time.monotonic)
    error: str = ""
    kept: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """True once all have answered, and that is kept."""
        return self.kept is not None and self.kept.done()

    def piece(self) -> Piece:
        """What a window needs to show it."""
        running = "Asking…" if self.blind else f"Asking {len(self.columns)} models…"
        ended = f"⚠ {self.error}" if self.error else BLIND if self.blind else "Vote."
        return {
            "words": ended if self.done else running,
            "letters": list(self.columns),
            "done": self.done,
            "heads": {letter: column.head(letter, blind=self.blind) for letter, column in self.columns.items()},
            **{letter: column.text(blind=self.blind) for letter, column in self.columns.items()},
        }


class Comparing:
    """The comparisons that run, and those that ended lately."""

    def __init__(self, comparisons: Comparisons, running: Running) -> None:
        self._comparisons = comparisons
        self._running = running
        self._begun: dict[Place, Comparison] = {}

    def begin(
        self, user: str, models: Sequence[Model], prompt: str, system: str, settings: Settings | None, *, blind: bool
    ) -> str:
        """Ask all models, each by its own defaults where ``settings`` is None; gives the comparison's id."""
        name = uuid.uuid4().hex
        place = _place(user, name)
        models = random.sample(models, len(models)) if blind else models
        messages = as_messages(system, [("user", prompt)])
        columns = {
            letter: Column(model, self._running.start(place, stream_answer(
                model.server, model.id, messages, settings or Settings.of(model.generation)
            )))
            for letter, model in zip(LETTERS, models, strict=False)
        }  # fmt: skip
        comparison = Comparison(prompt, system, blind, columns)
        comparison.kept = asyncio.create_task(self._keep(user, name, comparison))
        remembered = time.monotonic() - SECONDS_TO_REMEMBER
        self._begun = {known: one for known, one in self._begun.items() if not one.done or one.begun > remembered}
        self._begun[place] = comparison
        return name

    async def follow(self, user: str, name: str) -> AsyncGenerator[Piece]:
        """What has come of all answers, as it comes."""
        comparison = self._begun.get(_place(user, name))
        if comparison is None or comparison.kept is None:
            return
        while not comparison.done:
            yield comparison.piece()
            await asyncio.wait({comparison.kept}, timeout=self._running.seconds_between)
        yield comparison.piece()

    def stop(self, user: str, name: str) -> None:
        """End all answers of a comparison; what has come can be voted on."""
        self._running.end(_place(user, name), "stop")

    async def _keep(self, user: str, name: str, comparison: Comparison) -> None:
        for column in comparison.columns.values():
            await column.answering.kept()
        answers = {letter: (one.model.label, one.answering.latest) for letter, one in comparison.columns.items()}
        try:
            await asyncio.to_thread(
                self._comparisons.keep,
                user,
                name,
                comparison.prompt,
                comparison.system,
                answers,
                blind=comparison.blind,
            )
        except Exception as error:
            comparison.error = f"This comparison cannot be kept: {error}"


def told(letter: str, label: str, answer: Answer) -> str:
    """Who it is, and how fast."""
    return f"**{letter}** · **{label}** · {answer.in_words()}"


def _place(user: str, name: str) -> Place:
    return "compare", user, name
