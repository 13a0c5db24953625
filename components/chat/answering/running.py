"""Answers that run now: each is fetched in the background, saved, can be ended, and is followed by windows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from components.chat.client.errors import ServerError
from components.chat.storage.completion import BROKEN, STOPPED, Completion

log = logging.getLogger(__name__)

# A page with one running answer is updated ten times a second; each further answer makes all updates a little rarer.
SECONDS_BETWEEN_UPDATES, SECONDS_FOR_EACH_FURTHER_ANSWER = 0.1, 0.02
SECONDS_BETWEEN_TICKS = 1.0
SECONDS_BETWEEN_SAVES = 2.0
# ``stop``: windows still get what has come; ``leave``: they get nothing more; ``close``: the page itself shuts down.
EndReason = Literal["stop", "leave", "close"]
# "chat" or "compare", the user, and the id of the conversation or comparison.
AnswerKey = tuple[str, str, str]
Save = Callable[[Completion], Awaitable[None]]


async def save_nothing(_: Completion) -> None:
    """For answers that another object saves."""


class RunningAnswer:
    """One answer. ``save`` is called with it every two seconds, and once with the whole of it, whatever ends it."""

    def __init__(self, completions: AsyncGenerator[Completion], save: Save) -> None:
        self.latest = Completion()
        self._fetch_error = self._save_error = ""
        self.end_reason: EndReason | None = None
        self._completions = completions
        self._save_completion = save
        self._changed = asyncio.Event()
        self.ended: float | None = None
        self._started = time.monotonic()
        self._saving: asyncio.Task[None] | None = None
        self._fetching = asyncio.create_task(self._fetch())
        self._task = asyncio.create_task(self._run())

    @property
    def error(self) -> str:
        """What went wrong, for the person at the page; empty if nothing did."""
        return self._fetch_error or self._save_error

    @property
    def done(self) -> bool:
        """True once nothing more comes, and all is saved."""
        return self._task.done()

    def end(self, reason: EndReason) -> None:
        """End the answer early."""
        if self.end_reason is None and not self._fetching.done():
            self.end_reason = reason
            self._fetching.cancel()
        elif reason == "leave":
            self.end_reason = reason

    async def saved(self) -> None:
        """Wait until nothing more comes, and all is saved."""
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        """Fetch, then save the end. Only fetching is cancelled early, so two saves never run at once."""
        try:
            await asyncio.wait({self._fetching})
        except asyncio.CancelledError:  # the event loop shuts down
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        if not self._fetching.cancelled() and (error := self._fetching.exception()) is not None:
            self._fetch_error = str(error)
            if not isinstance(error, ServerError):
                log.error("an answer failed", exc_info=error)
                self._fetch_error = (
                    f"The page failed ({type(error).__name__}); its log says more. Press Retry to ask again."
                )
        if self._saving is not None:
            await asyncio.wait({self._saving})
        if self.latest.finish_reason is None:
            reason = STOPPED if self.end_reason in ("stop", "leave") else BROKEN
            self.latest = replace(self.latest, finish_reason=reason, retry_seconds=None)
        await self._save(self.latest)
        self.ended = time.monotonic()

    async def _fetch(self) -> None:
        saved = time.monotonic()
        async with aclosing(self._completions) as completions:
            async for completion in completions:
                self.latest = completion
                # A new event for each state: several windows may wait for it.
                self._changed.set()
                self._changed = asyncio.Event()
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES and (self._saving is None or self._saving.done()):
                    saved = time.monotonic()
                    self._saving = asyncio.create_task(self._save(replace(completion, finish_reason=BROKEN)))

    async def _save(self, completion: Completion) -> None:
        """An answer that cannot be saved is still shown."""
        try:
            await self._save_completion(completion)
            self._save_error = ""
        except Exception as error:
            log.exception("an answer cannot be saved")
            self._save_error = f"This answer cannot be saved: {error}"

    async def states(self, running: RunningAnswers) -> AsyncIterator[Completion]:
        """The newest states: the first text at once, the last in any case, those between as often as allowed.

        Several windows can follow at once. While no text has come, ``seconds`` counts on.
        """
        had_text = False
        while not self.done:
            changed, completion = self._changed, self.latest
            waiting = not completion.text and completion.retry_seconds is None
            yield replace(completion, seconds=time.monotonic() - self._started) if waiting else completion
            if had_text:
                await asyncio.wait({self._task}, timeout=running.seconds_between_updates)
            had_text = bool(completion.text)
            await self._wait_for_change(changed)
        if self.end_reason != "leave":
            yield self.latest

    async def _wait_for_change(self, changed: asyncio.Event) -> None:
        """Wait for a new state, the end, or a tick."""
        change = asyncio.ensure_future(changed.wait())
        either: set[asyncio.Future[Any]] = {change, self._task}
        try:
            await asyncio.wait(either, timeout=SECONDS_BETWEEN_TICKS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()


class RunningAnswers:
    """All answers that run, by key. Gradio's own cancelling would race with an answer's next delta."""

    def __init__(self) -> None:
        self._answers: dict[AnswerKey, list[RunningAnswer]] = {}

    def start(
        self, key: AnswerKey, completions: AsyncGenerator[Completion], save: Save = save_nothing
    ) -> RunningAnswer:
        """Begin to fetch an answer; answers that have ended are forgotten."""
        for known in list(self._answers):
            self._answers[known] = [answer for answer in self._answers[known] if not answer.done]
            if not self._answers[known]:
                del self._answers[known]
        answer = RunningAnswer(completions, save)
        self._answers.setdefault(key, []).append(answer)
        return answer

    def end(self, key: AnswerKey, reason: EndReason) -> None:
        """End the answers of a key."""
        for answer in self._answers.get(key, ()):
            answer.end(reason)

    async def leave(self, key: AnswerKey) -> None:
        """End the answers of a key and show nothing more of them; returns once they are saved."""
        self.end(key, "leave")
        await _all_saved(self._answers.get(key, ()))

    async def close(self) -> None:
        """End all answers because the page shuts down; returns once they are saved."""
        for key in self._answers:
            self.end(key, "close")
        await _all_saved(answer for answers in self._answers.values() for answer in answers)

    @property
    def seconds_between_updates(self) -> float:
        """How long a window waits for the next update of an answer."""
        return SECONDS_BETWEEN_UPDATES + SECONDS_FOR_EACH_FURTHER_ANSWER * max(0, len(self._answers) - 1)


async def _all_saved(answers: Iterable[RunningAnswer]) -> None:
    await asyncio.gather(*(answer.saved() for answer in list(answers)))
