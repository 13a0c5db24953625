"""The engine behind the API: requests in, pieces of text out. One thread owns the model; asyncio owns the sockets.

``Engine`` is the interface; ``SerialEngine`` answers one request at a time, in order of arrival.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from components.contracts import Message
from components.errors import LorryError
from components.gguf_model import GgufModel, Sampling, TextStream

log = logging.getLogger(__name__)

# How long the thread waits for a request before it looks whether to stop.
SECONDS_BETWEEN_LOOKS = 0.1

FinishReason = Literal["stop", "length"]


class PromptTooLongError(LorryError):
    """The prompt leaves no room for an answer within the context."""


class StoppingError(LorryError):
    """The server stops before it came to this request."""


class QueueFullError(LorryError):
    """As many requests wait as may."""


@dataclass(frozen=True)
class ChatRequest:
    """What to answer. ``max_tokens`` None: as far as the context reaches."""

    messages: Sequence[Message]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of an answer. The last one carries ``finish_reason`` and the token counts."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Engine(Protocol):
    """What the API needs of an engine."""

    @property
    def model_id(self) -> str:
        """The model's name on the wire."""

    @property
    def ready(self) -> bool:
        """True while requests are taken."""

    @property
    def waiting(self) -> int:
        """Requests that nobody works on yet."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Piece]:
        """The answer, piece by piece; closing the generator cancels the request.

        Raises:
            PromptTooLongError: before the first piece.
            QueueFullError: before the first piece.
        """

    def stop(self) -> None:
        """Take nothing new and end what runs, soon; returns at once. Streams still get their finish_reason."""

    def close(self) -> None:
        """Stop, wait for the end and free the model."""


class SerialEngine:
    """One request at a time; later ones wait their turn in a bounded queue and cut nobody."""

    def __init__(self, model: GgufModel, model_id: str, max_waiting: int) -> None:
        self._model = model
        self._model_id = model_id
        self._waiting: queue.Queue[_Job] = queue.Queue(maxsize=max_waiting)
        self._closing = threading.Event()
        self._warm = threading.Event()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def model_id(self) -> str:
        """The model's name on the wire."""
        return self._model_id

    @property
    def ready(self) -> bool:
        """True once a token was computed, until ``close`` or until the engine's thread died."""
        return self._warm.is_set() and not self._closing.is_set() and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests behind the one that is answered."""
        return self._waiting.qsize()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece]:
        """See ``Engine``."""
        job = _Job(request, asyncio.get_running_loop())
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            raise QueueFullError(f"{self._waiting.maxsize} requests are waiting already; try again later") from None
        try:
            while True:
                item = await job.pieces.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            job.cancelled.set()

    def stop(self) -> None:
        """See ``Engine``. A stream that runs ends with ``length``, one that waits with a StoppingError."""
        self._closing.set()

    def close(self) -> None:
        """See ``Engine``."""
        self.stop()
        self._thread.join()
        self._model.close()

    def _work(self) -> None:
        self._warm_up()
        while True:
            try:
                job = self._waiting.get(timeout=SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                if self._closing.is_set():
                    return
                continue
            if job.cancelled.is_set():
                continue
            try:
                if self._closing.is_set():
                    raise StoppingError("the server is stopping; ask again in a moment")
                for piece in self._answer(job):
                    job.put(piece)
            except Exception as error:  # the client must hear of it, and the next client must be served
                if not isinstance(error, LorryError):
                    log.exception("a request failed")
                job.put(error)

    def _warm_up(self) -> None:
        tokens = self._model.prompt_tokens([Message(role="user", content="Hello")])
        next(self._model.generate(tokens, Sampling()))
        self._warm.set()

    def _answer(self, job: _Job) -> Iterator[Piece]:
        request = job.request
        prompt = self._model.prompt_tokens(request.messages)
        room = self._model.n_ctx - len(prompt)
        if room < 1:
            raise PromptTooLongError(
                f"the prompt has {len(prompt)} tokens and the context holds {self._model.n_ctx}; "
                "shorten the conversation"
            )
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        text, n_tokens = _StoppingText(request.stop), 0
        finish_reason: FinishReason = "length"
        for token in self._model.generate(prompt, request.sampling):
            if job.cancelled.is_set() or self._closing.is_set():
                break
            if self._model.is_end(token):
                finish_reason = "stop"
                break
            n_tokens += 1
            if ready := text.feed(self._model.piece(token)):
                yield Piece(ready)
            if text.stopped:
                finish_reason = "stop"
                break
            if n_tokens >= limit:
                break
        yield Piece(text.rest(), finish_reason, len(prompt), n_tokens)


class _Job:
    """One request on its way through the engine's thread."""

    def __init__(self, request: ChatRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.cancelled = threading.Event()
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._loop = loop

    def put(self, item: Piece | Exception) -> None:
        """Hand over from the engine's thread; a loop that has ended wants nothing any more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.pieces.put_nowait, item)


class _StoppingText:
    """Text of tokens, cut before the first stop string; what could be the start of one is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [string for string in stop if string]
        self._stream = TextStream()
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """Text that is certain now."""
        self._held += self._stream.feed(piece)
        places = [place for string in self._stop if (place := self._held.find(string)) >= 0]
        if places:
            self.stopped = True
            return self._release(min(places), drop_rest=True)
        held_back = max((_overlap(self._held, string) for string in self._stop), default=0)
        return self._release(len(self._held) - held_back)

    def rest(self) -> str:
        """What is left when no token follows."""
        return "" if self.stopped else self._held + self._stream.rest()

    def _release(self, end: int, *, drop_rest: bool = False) -> str:
        ready, self._held = self._held[:end], "" if drop_rest else self._held[end:]
        return ready


def _overlap(text: str, string: str) -> int:
    """How many characters at the end of ``text`` are the beginning of ``string``."""
    return next((n for n in range(min(len(text), len(string) - 1), 0, -1) if text.endswith(string[:n])), 0)
