"""Comparisons that run: each runs to its end and is saved, and windows follow all its answers at once."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from components.chat.answering.recent import Recent
from components.chat.answering.running import AnswerKey, RunningAnswer, RunningAnswers
from components.chat.client.completions import stream_completion
from components.chat.client.servers import ChatModel
from components.chat.client.settings import Settings
from components.chat.storage.comparisons import Comparisons
from components.chat.storage.completion import Completion
from components.chat.storage.export import as_messages

LETTERS = "ABCD"
FAILED = "This model cannot answer now."
# No window is sent which model is which before the vote.
BLIND = "Vote: names and figures are shown after the vote."
SECONDS_TO_REMEMBER = 3600.0


@dataclass(frozen=True)
class Column:
    """One model's answer in a comparison."""

    model: ChatModel
    answer: RunningAnswer

    def heading(self, letter: str, *, blind: bool) -> str:
        """The letter, with the model and its figures unless ``blind``."""
        return f"**{letter}**" if blind else heading(letter, self.model.label, self.answer.latest)

    def text(self, *, blind: bool) -> str:
        """The answer and its error, whose message may name the server and is replaced if ``blind``."""
        error = self.answer.error
        error = FAILED if blind and error else error
        return "\n\n".join(filter(None, (self.answer.latest.text, error and f"⚠ {error}"))) or "…"


@dataclass(frozen=True)
class ComparisonSnapshot:
    """A comparison at one moment; headings and texts are by letter."""

    status: str
    headings: dict[str, str]
    texts: dict[str, str]
    done: bool


@dataclass
class RunningComparison:
    """One prompt and the answers to it, by letter."""

    prompt: str
    system: str
    blind: bool
    columns: dict[str, Column]
    error: str = ""
    saving: asyncio.Task[None] | None = None
    ended: float | None = None

    @property
    def done(self) -> bool:
        """True once all models have answered, and the comparison is saved."""
        return self.saving is not None and self.saving.done()

    def snapshot(self) -> ComparisonSnapshot:
        """What a window may show now."""
        status = "Asking…" if self.blind else f"Asking {len(self.columns)} models…"
        if self.done:
            status = f"⚠ {self.error}" if self.error else BLIND if self.blind else "Vote."
        return ComparisonSnapshot(
            status,
            {letter: column.heading(letter, blind=self.blind) for letter, column in self.columns.items()},
            {letter: column.text(blind=self.blind) for letter, column in self.columns.items()},
            self.done,
        )


class RunningComparisons:
    """The comparisons that run, and those that ended in the last hour."""

    def __init__(self, comparisons: Comparisons, running: RunningAnswers) -> None:
        self._comparisons = comparisons
        self._running = running
        self._recent: Recent[RunningComparison] = Recent(SECONDS_TO_REMEMBER)
        self._saving: set[asyncio.Task[None]] = set()

    def start(
        self, user: str, models: Sequence[ChatModel], prompt: str, system: str, settings: Settings | None,
        *, blind: bool,
    ) -> str:  # fmt: skip
        """Ask all models, each with its own defaults if ``settings`` is None; returns the comparison's id."""
        name = uuid.uuid4().hex
        models = random.sample(models, len(models)) if blind else models
        messages = as_messages(system, [("user", prompt)])
        columns = {}
        for letter, model in zip(LETTERS, models, strict=False):
            own = settings or Settings.from_defaults(model.generation)
            completions = stream_completion(model.server, model.id, messages, own)
            columns[letter] = Column(model, self._running.start(_key(user, name), completions))
        comparison = RunningComparison(prompt, system, blind, columns)
        comparison.saving = asyncio.create_task(self._save(user, name, comparison))
        self._saving.add(comparison.saving)
        comparison.saving.add_done_callback(self._saving.discard)
        self._recent.add(user, name, comparison)
        return name

    async def follow(self, user: str, name: str) -> AsyncGenerator[ComparisonSnapshot]:
        """The comparison as its answers grow; nothing if there is none."""
        comparison = self._recent.get(user, name)
        if comparison is None or comparison.saving is None:
            return
        while not comparison.done:
            yield comparison.snapshot()
            await asyncio.wait({comparison.saving}, timeout=self._running.seconds_between_updates)
        yield comparison.snapshot()

    def stop(self, user: str, name: str) -> None:
        """End all answers of a comparison; what has come can be voted on."""
        self._running.end(_key(user, name), "stop")

    async def close(self) -> None:
        """Return once every comparison is saved whose answers have ended; ``RunningAnswers.close`` ends them."""
        await asyncio.gather(*self._saving)

    async def _save(self, user: str, name: str, comparison: RunningComparison) -> None:
        for column in comparison.columns.values():
            await column.answer.saved()
        answers = {letter: (one.model.label, one.answer.latest) for letter, one in comparison.columns.items()}
        prompt, system, blind = comparison.prompt, comparison.system, comparison.blind
        try:
            await asyncio.to_thread(self._comparisons.save, user, name, prompt, system, answers, blind=blind)
        except Exception as error:
            comparison.error = f"This comparison cannot be saved: {error}"
        comparison.ended = time.monotonic()


def heading(letter: str, label: str, completion: Completion) -> str:
    """The letter of a column with its model and figures."""
    return f"**{letter}** · **{label}** · {completion.status_line()}"


def _key(user: str, name: str) -> AnswerKey:
    return "compare", user, name
