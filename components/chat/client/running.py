"""Answers that run now: each is fetched in the background, can be ended, and is drawn as often as the page can."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from components.chat.client.completions import BROKEN, STOPPED, Answer, ServerError

log = logging.getLogger(__name__)

# A page that shows one answer draws it ten times a second; each further answer makes all of them a little rarer.
SECONDS_BETWEEN, SECONDS_FOR_EACH_MORE = 0.1, 0.02
SECONDS_BETWEEN_TICKS = 1.0
SECONDS_BETWEEN_SAVES = 2.0
Ending = Literal["stop", "leave", "close"]
# A part of the page, its user, and the conversation or comparison: whichever windows have it open.
Place = tuple[str, str, str]
Keep = Callable[[Answer], Awaitable[None]]


async def keep_nothing(_: Answer) -> None:
    """For answers that are kept by somebody else."""


class Answering:
    """One answer. ``keep`` is given it every other second, and whole at its end, whatever ends it."""

    def __init__(self, answers: AsyncGenerator[Answer], keep: Keep) -> None:
        self.latest = Answer()
        self._failed = self._unkept = ""
        self.ending: Ending | None = None
        self._answers = answers
        self._keep = keep
        self._news = asyncio.Event()
        self.ended: float | None = None
        self._started = time.monotonic()
        self._saving: asyncio.Task[None] | None = None
        self._fetching = asyncio.create_task(self._fetch())
        self._task = asyncio.create_task(self._run())

    @property
    def error(self) -> str:
        """What went wrong, in words, or nothing."""
        return self._failed or self._unkept

    @property
    def done(self) -> bool:
        """True once nothing more comes, and all is kept."""
        return self._task.done()

    def end(self, ending: Ending) -> None:
        """End it early: ``stop`` still shows what has come, ``leave`` nothing more; ``close``: the page itself ends."""
        if self.ending is None and not self._fetching.done():
            self.ending = ending
            self._fetching.cancel()
        elif ending == "leave":
            self.ending = ending

    async def kept(self) -> None:
        """Wait until nothing more comes, and all is kept."""
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        """Fetch, and keep the end; only fetching can be ended early, so nothing is kept twice at a time."""
        try:
            await asyncio.wait({self._fetching})
        except asyncio.CancelledError:  # the loop ends
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        if not self._fetching.cancelled() and (error := self._fetching.exception()) is not None:
            self._failed = str(error)
            if not isinstance(error, ServerError):
                log.error("an answer failed", exc_info=error)
                self._failed = f"The page failed ({type(error).__name__}); its log says more. Press Retry to ask again."
        if self._saving is not None:
            await asyncio.wait({self._saving})
        if self.latest.finish_reason is None:
            reason = STOPPED if self.ending in ("stop", "leave") else BROKEN
            self.latest = replace(self.latest, finish_reason=reason, busy_seconds=None)
        await self._save(self.latest)
        self.ended = time.monotonic()

    async def _fetch(self) -> None:
        saved = time.monotonic()
        async with aclosing(self._answers) as answers:
            async for answer in answers:
                self.latest = answer
                # A new one for each piece: several windows may wait for it.
                self._news.set()
                self._news = asyncio.Event()
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES and (self._saving is None or self._saving.done()):
                    saved = time.monotonic()
                    self._saving = asyncio.create_task(self._save(replace(answer, finish_reason=BROKEN)))

    async def _save(self, answer: Answer) -> None:
        """What cannot be kept is still shown."""
        try:
            await self._keep(answer)
            self._unkept = ""
        except Exception as error:
            log.exception("an answer cannot be kept")
            self._unkept = f"This answer cannot be kept: {error}"

    async def pieces(self, running: Running) -> AsyncIterator[Answer]:
        """The newest state: the first text at once, the last in any case, between them as often as can be drawn.

        Each window that follows has its own. While no text has come, ``seconds`` counts on.
        """
        had_text = False
        while not self.done:
            news, answer = self._news, self.latest
            waiting = not answer.text and answer.busy_seconds is None
            yield replace(answer, seconds=time.monotonic() - self._started) if waiting else answer
            if had_text:
                await asyncio.wait({self._task}, timeout=running.seconds_between)
            had_text = bool(answer.text)
            await self._something_new(news)
        if self.ending != "leave":
            yield self.latest

    async def _something_new(self, news: asyncio.Event) -> None:
        """Wait for a piece, the end, or a tick."""
        arrival = asyncio.ensure_future(news.wait())
        either: set[asyncio.Future[Any]] = {arrival, self._task}
        try:
            await asyncio.wait(either, timeout=SECONDS_BETWEEN_TICKS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrival.cancel()


class Running:
    """The answers that run, by their place. Gradio's own cancelling would race an answer's next piece."""

    def __init__(self) -> None:
        self._answers: dict[Place, list[Answering]] = {}

    def start(self, place: Place, answers: AsyncGenerator[Answer], keep: Keep = keep_nothing) -> Answering:
        """Begin to fetch an answer; what has ended is forgotten."""
        for known in list(self._answers):
            self._answers[known] = [answering for answering in self._answers[known] if not answering.done]
            if not self._answers[known]:
                del self._answers[known]
        answering = Answering(answers, keep)
        self._answers.setdefault(place, []).append(answering)
        return answering

    def end(self, place: Place, ending: Ending) -> None:
        """End the answers of a place."""
        for answering in self._answers.get(place, ()):
            answering.end(ending)

    async def leave(self, place: Place) -> None:
        """End the answers of a place and show nothing more of them; returns when what has come is kept."""
        self.end(place, "leave")
        await _kept(self._answers.get(place, ()))

    async def close(self) -> None:
        """End all answers, for the page ends; returns when what has come is kept."""
        for place in self._answers:
            self.end(place, "close")
        await _kept([answering for known in self._answers.values() for answering in known])

    @property
    def seconds_between(self) -> float:
        """How long an answer waits until it is drawn again."""
        return SECONDS_BETWEEN + SECONDS_FOR_EACH_MORE * max(0, len(self._answers) - 1)


async def _kept(answers: Sequence[Answering]) -> None:
    await asyncio.gather(*(answering.kept() for answering in answers))
