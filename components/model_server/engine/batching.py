"""The engine: one thread owns the model and serves many requests at once; asyncio owns the sockets."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from components.errors import LorryError
from components.gguf.context import Rows
from components.gguf.model import GgufModel
from components.gguf.sampling import Sampling
from components.model_server.engine.decode_batcher import Batches
from components.model_server.engine.fair_queue import FairQueue
from components.model_server.engine.interface import (
    HEARTBEAT_SECONDS,
    Delta,
    PromptTooLongError,
    QueueFullError,
    Request,
    TimedOutError,
    UnavailableError,
)
from components.model_server.engine.metrics import Metrics
from components.model_server.engine.prefill_budget import Pace
from components.model_server.engine.prompts import prompt_tokens, require_tokens
from components.model_server.engine.scheduler import Job, Scheduler
from components.model_server.engine.slots import Places
from components.model_server.engine.thread_tuner import Threads, seconds_waited_for_a_core
from components.model_server.guided_decoding.grammars import Grammars
from components.model_server.tool_calls.grammar import grammar_of

log = logging.getLogger(__name__)

# How long the thread sleeps at most when there is nothing to do.
SECONDS_BETWEEN_LOOKS = 0.2
# Without a step for so long while there is work, the engine hangs: the pod should be replaced.
STUCK_SECONDS = 300.0
# Threads that render and tokenize prompts beside the one that computes.
PREPARING_THREADS = 2
LONGEST_RETRY_SECONDS = 60
STOPPING = "the server is stopping; ask again in a moment"
WARM_UP_TOKENS = 8
WARM_UP_ROWS = 128
WARM_UP_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
WARM_UP_REPEATS = 3
WARM_UP_PROMPTS = 2


@dataclass(frozen=True)
class EngineSettings:
    """How a server shares its time and memory; ``gap_seconds`` is the pause between two tokens that it aims at."""

    max_waiting: int = 64
    max_seconds: float = 600.0
    gap_seconds: float = 0.4
    idle_gap_seconds: float = 1.5
    copies_bytes: int = 512 << 20
    n_keys: int = 1


class BatchingEngine:
    """Every step gives each running answer a token, and reads a piece of the prompts that have come."""

    def __init__(self, model: GgufModel, settings: EngineSettings, metrics: Metrics) -> None:
        self._model = model
        self._settings = settings
        self._metrics = metrics
        self._places = Places(model.decoder, copies_bytes=settings.copies_bytes)
        self._pace = Pace(
            gap_seconds=settings.gap_seconds,
            idle_gap_seconds=settings.idle_gap_seconds,
            n_rows=model.decoder.n_rows,
        )
        decoder = model.decoder
        self._threads = Threads(decoder.n_threads, decoder.use_threads, waited=seconds_waited_for_a_core)
        self._batches = Batches()
        self._scheduler = Scheduler(model, self._places, self._pace, self._batches, self._threads, metrics)
        self._queue: FairQueue[Job] = FairQueue(settings.max_waiting, settings.n_keys)
        # A place is kept for each other key, up to half of them: no key's long answers hold all.
        self._most_of_a_key = max(1, decoder.n_places - min(max(0, settings.n_keys - 1), decoder.n_places // 2))
        # Streams that are open: counted on asyncio's thread, where ``idle`` is asked for.
        self._n_open = 0
        # Seconds that the request which was taken last had waited.
        self._waited = 0.0
        self._outbox = _Outbox()
        self._preparing = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare")
        self._grammars = Grammars(model)
        self._looked = time.monotonic()
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._warm = threading.Event()
        self._work_to_do = threading.Event()
        metrics.watch(
            waiting=lambda: len(self._queue),
            running=lambda: self._scheduler.n_running,
            copies_bytes=lambda: self._places.bytes_of_copies,
            threads=lambda: self._threads.n,
        )
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """See ``Engine``: once tokens were computed, until ``drain``."""
        return self._warm.is_set() and self.alive and not self._draining.is_set()

    @property
    def alive(self) -> bool:
        """See ``Engine``."""
        return self._thread.is_alive() and time.monotonic() - self._looked < STUCK_SECONDS

    @property
    def idle(self) -> bool:
        """See ``Engine``."""
        return self._n_open == 0

    def require_capacity(self, key: str) -> None:
        """See ``Engine``."""
        if not self._queue.has_room(key, self._n_free):
            raise self._full()

    async def stream(self, request: Request) -> AsyncGenerator[Delta]:
        """See ``Engine``."""
        if self._draining.is_set():
            self._metrics.rejected.labels("stopping").inc()
            raise UnavailableError(STOPPING)
        # Room comes before work: what is too much costs nothing.
        if not self._queue.reserve(request.key, self._n_free):
            raise self._full()
        self._n_open += 1
        try:
            async with aclosing(self._deltas(request)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self._n_open -= 1

    async def _deltas(self, request: Request) -> AsyncGenerator[Delta]:
        """The answer to a request for which there is room."""
        deltas: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        job = None
        try:
            # A long prompt takes a while to render, and the streams of others must not wait for it.
            loop = asyncio.get_running_loop()
            preparing = loop.run_in_executor(self._preparing, self._prepare, request, loop, deltas)
            while not (await asyncio.wait({preparing}, timeout=HEARTBEAT_SECONDS))[0]:
                yield Delta("")
            job = preparing.result()
        finally:
            taken = self._queue.put(request.key, job)
        if not taken:
            raise UnavailableError(STOPPING)
        self._work_to_do.set()
        try:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        item = await deltas.get()
                except TimeoutError:
                    item = Delta("")
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            job.abort.request()
            if self._queue.remove(lambda waiting: waiting is job):
                self._metrics.cancelled.inc()
            self._work_to_do.set()

    @property
    def _n_free(self) -> int:
        return self._model.decoder.n_places - self._scheduler.n_running

    def _full(self) -> QueueFullError:
        self._metrics.rejected.labels("queue_full").inc()
        # What was taken last waited as long as a full queue takes to empty. Drawn: a crowd is not to return at once.
        retry_after = min(LONGEST_RETRY_SECONDS, max(1, round(self._waited * random.uniform(0.25, 0.75))))
        return QueueFullError(f"{len(self._queue)} requests are waiting already; try again later", retry_after)

    def drain(self) -> None:
        """See ``Engine``."""
        self._draining.set()

    def stop(self) -> None:
        """See ``Engine``. A stream that runs ends with ``length``, one that waits with an UnavailableError."""
        self._draining.set()
        self._stopping.set()
        self._work_to_do.set()

    def close(self) -> None:
        """See ``Engine``."""
        self.stop()
        self._thread.join()
        # A prompt that is still rendered uses the model.
        self._preparing.shutdown(cancel_futures=True)
        self._model.close()

    def _prepare(
        self, request: Request, loop: asyncio.AbstractEventLoop, deltas: asyncio.Queue[Delta | Exception]
    ) -> Job:
        """The request as the scheduler takes it.

        Raises:
            PromptTooLongError: it leaves no room for an answer.
            SchemaError: its JSON schema, or that of a tool, cannot be followed.
            LorryError: it is empty, or a bias is of no token.
        """
        require_tokens(self._model, request.sampling.logit_bias, "logit_bias")
        prompt = self._prompt_tokens(request)
        room = self._model.n_ctx - len(prompt)
        return Job(
            request=request,
            prompt=prompt,
            limit=room if request.max_tokens is None else min(request.max_tokens, room),
            deadline=time.monotonic() + self._settings.max_seconds,
            put=lambda item: self._outbox.put(loop, deltas, item),
            matcher=self._matcher(request),
            spelled={} if request.tools is None else request.tools.call_format.specials,
        )

    def _matcher(self, request: Request) -> Any:
        """What says which token may come next; None where any may."""
        if request.tools is not None:
            grammar = grammar_of(
                request.tools, request.json_schema, self._grammars, in_thoughts=request.opens_reasoning
            )
            return self._grammars.of_lark(grammar, "tools")
        return None if request.json_schema is None else self._grammars.of_schema(request.json_schema)

    def _prompt_tokens(self, request: Request) -> list[int]:
        try:
            tokens = prompt_tokens(self._model, request)
        except UnicodeEncodeError as error:
            raise LorryError(f"the prompt holds half a character ({error.reason}); correct it") from error
        if len(tokens) >= self._model.n_ctx:
            self._metrics.rejected.labels("prompt_too_long").inc()
            # Clients tell this error from others by the words "maximum context length is".
            raise PromptTooLongError(
                f"This model's maximum context length is {self._model.n_ctx} tokens, and the prompt has {len(tokens)}; "
                "shorten the conversation",
                "prompt" if request.is_text else "messages",
            )
        if not tokens:
            raise LorryError("the prompt is empty; send some text")
        return tokens

    def _work(self) -> None:
        try:
            self._warm_up()
            while not self._stopping.is_set():
                self._looked = time.monotonic()
                self._admit()
                if self._scheduler.n_running == 0:
                    self._work_to_do.wait(SECONDS_BETWEEN_LOOKS)
                    self._work_to_do.clear()
                    continue
                self._scheduler.step()
                self._outbox.send()
        finally:
            # Whatever ended this thread: nobody may wait for it for ever.
            self._scheduler.stop()
            for job in self._queue.close():
                job.put(UnavailableError(STOPPING))
            self._outbox.send()

    def _admit(self) -> None:
        """Begin what waits, while there are free places; what waited too long is told."""
        now = time.monotonic()
        for job in self._queue.remove(lambda job: now >= job.deadline):
            self._metrics.deadlines.inc()
            job.put(TimedOutError(f"no place was free within {self._settings.max_seconds:g} s; ask again later"))
        self._outbox.send()
        while self._scheduler.has_room:
            waiting = self._queue.take(self._scheduler.n_running_of_keys(), self._most_of_a_key)
            if waiting is None:
                return
            if waiting.cancelled:
                self._metrics.cancelled.inc()
            else:
                self._waited = now - waiting.arrived
                self._metrics.queue_seconds.observe(self._waited)
                self._scheduler.begin(waiting)

    def _warm_up(self) -> None:
        """Compute tokens before traffic: weights come from the disk, and the node says what rows cost on it."""
        hello = self._model.tokenize("Hello there", special=False, begin=True)
        for _, _ in zip(range(WARM_UP_TOKENS), self._model.generate(hello, Sampling()), strict=False):
            pass
        self._measure_prompts(hello)
        self._measure_batches(hello[0])
        for place in range(self._model.decoder.n_places):
            self._model.decoder.forget(place)
        self._warm.set()

    def _measure_prompts(self, tokens: Sequence[int]) -> None:
        """What a piece of a prompt takes; the faster of two, for one thought too dear is not tried again."""
        decoder = self._model.decoder
        for size in (size for size in self._pace.sizes if size <= min(WARM_UP_ROWS, self._model.n_ctx)):
            seconds = []
            for _ in range(WARM_UP_PROMPTS):
                decoder.forget(0)
                started = time.monotonic()
                decoder.decode([Rows(0, (list(tokens) * (size // len(tokens) + 1))[:size], 0, [False] * size)])
                seconds.append(time.monotonic() - started)
            self._pace.prompt_rows_took(size, min(seconds), start=0)
        decoder.forget(0)

    def _measure_batches(self, token: int) -> None:
        """What a batch of some places takes; the fastest of a few, for neighbours only ever add to it."""
        decoder, n = self._model.decoder, self._model.decoder.n_places
        for size in sorted({size for size in WARM_UP_BATCHES if size < n} | {n}):
            for place in range(size):
                decoder.forget(place)
            seconds = []
            for start in range(min(WARM_UP_REPEATS, self._model.n_ctx)):
                started = time.monotonic()
                decoder.decode([Rows(place, [token], start, [True]) for place in range(size)])
                seconds.append(time.monotonic() - started)
            self._batches.took(size, min(seconds))


class _Outbox:
    """What a step has made, handed to asyncio at once: waking the loop costs more than a token does."""

    def __init__(self) -> None:
        self._items: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Delta | Exception], Delta | Exception]] = []

    def put(
        self, loop: asyncio.AbstractEventLoop, deltas: asyncio.Queue[Delta | Exception], item: Delta | Exception
    ) -> None:
        """Keep an item for ``send``."""
        self._items.append((loop, deltas, item))

    def send(self) -> None:
        """Hand over; a loop that has ended wants nothing any more."""
        items, self._items = self._items, []
        for loop in {loop for loop, _, _ in items}:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, [(deltas, item) for of, deltas, item in items if of is loop])


def _deliver(items: list[tuple[asyncio.Queue[Delta | Exception], Delta | Exception]]) -> None:
    for deltas, item in items:
        deltas.put_nowait(item)
