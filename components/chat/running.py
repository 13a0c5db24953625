"""Answers that run now: each is fetched in the background, can be ended, and is drawn as often as the page can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from components.chat.answers import BROKEN, STOPPED, Answer, ServerError

# A page that shows one answer draws it ten times a second; each further answer makes all of them a little rarer.
SECONDS_BETWEEN, SECONDS_FOR_EACH_MORE = 0.1, 0.02
SECONDS_BETWEEN_TICKS = 1.0
SECONDS_BETWEEN_SAVES = 2.0
Ending = Literal["stop", "leave", "close"]
Place = tuple[str, str | None]
Keep = Callable[[Answer], Awaitable[None]]


async def keep_nothing(_: Answer) -> None:
    """For answers that are kept by somebody else."""


class Answering:
    """One answer. ``keep`` is given it every other second, and whole at its end, whatever ends it."""

    def __init__(self, answers: AsyncGenerator[Answer], keep: Keep) -> None:
        self.latest = Answer()
        self.error = ""
        self.ending: Ending | None = None
        self._answers = answers
        self._keep = keep
        self._news = asyncio.Event()
        self._started = time.monotonic()
        self._task = asyncio.create_task(self._fetch())

    @property
    def done(self) -> bool:
        """True once nothing more comes, and all is kept."""
        return self._task.done()

    def end(self, ending: Ending) -> None:
        """End it early: ``stop`` still shows what has come, ``leave`` nothing more; ``close``: the page itself ends."""
        if self.ending is None and not self.done:
            self.ending = ending
            self._task.cancel()

    async def kept(self) -> None:
        """Wait until nothing more comes, and all is kept."""
        await asyncio.wait({self._task})

    async def _fetch(self) -> None:
        saved = time.monotonic()
        try:
            async with aclosing(self._answers) as answers:
                async for answer in answers:
                    self.latest = answer
                    self._news.set()
                    if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                        saved = time.monotonic()
                        await self._keep(replace(answer, finish_reason=BROKEN))
        except ServerError as error:
            self.error = str(error)
        except asyncio.CancelledError:
            if self.ending is None:  # the page itself ends
                raise
        finally:
            if self.latest.finish_reason is None:
                reason = STOPPED if self.ending in ("stop", "leave") else BROKEN
                self.latest = replace(self.latest, finish_reason=reason, busy_seconds=None)
            await self._keep(self.latest)

    async def pieces(self, running: Running) -> AsyncIterator[Answer]:
        """The newest state: the first text at once, the last in any case, between them as often as can be drawn.

        While no text has come, ``seconds`` counts on.
        """
        had_text = False
        while not self.done:
            waiting = not self.latest.text and self.latest.busy_seconds is None
            yield replace(self.latest, seconds=time.monotonic() - self._started) if waiting else self.latest
            if had_text:
                await asyncio.wait({self._task}, timeout=running.seconds_between)
            had_text = bool(self.latest.text)
            await self._something_new()
        self._task.result()
        if self.ending != "leave":
            yield self.latest

    async def _something_new(self) -> None:
        """Wait for a piece, the end, or a tick."""
        arrival = asyncio.ensure_future(self._news.wait())
        either: set[asyncio.Future[Any]] = {arrival, self._task}
        try:
            await asyncio.wait(either, timeout=SECONDS_BETWEEN_TICKS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrival.cancel()
        self._news.clear()


class Running:
    """The answers that run, by their place: a part of the page, and the session that has it open.

    Gradio's own cancelling would race an answer's next piece.
    """

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

    def runs(self, place: Place) -> bool:
        """True while an answer runs there."""
        return any(not answering.done for answering in self._answers.get(place, ()))

    def stop(self, place: Place) -> None:
        """End the answers of a place; what has come is shown."""
        for answering in self._answers.get(place, ()):
            answering.end("stop")

    async def leave(self, place: Place) -> None:
        """End the answers of a place and show nothing more of them; returns when what has come is kept."""
        await _end(self._answers.get(place, ()), "leave")

    async def close(self) -> None:
        """End all answers, for the page ends; returns when what has come is kept."""
        await _end([answering for known in self._answers.values() for answering in known], "close")

    @property
    def seconds_between(self) -> float:
        """How long an answer waits until it is drawn again."""
        return SECONDS_BETWEEN + SECONDS_FOR_EACH_MORE * max(0, len(self._answers) - 1)


async def _end(answers: Sequence[Answering], ending: Ending) -> None:
    for answering in answers:
        answering.end(ending)
    await asyncio.gather(*(answering.kept() for answering in answers))
