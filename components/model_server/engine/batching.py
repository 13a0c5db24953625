"""The engine: one thread owns the model and serves many requests at once; asyncio owns the sockets."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from components.errors import LorryError
from components.gguf.model import GgufModel
from components.model_server.engine.decode_batcher import DecodeBatcher
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
from components.model_server.engine.outbox import DeltaQueue, Outbox
from components.model_server.engine.prefill_budget import PrefillBudget
from components.model_server.engine.prefix_cache import PrefixCache
from components.model_server.engine.prompts import prompt_tokens, require_tokens
from components.model_server.engine.scheduler import Scheduler
from components.model_server.engine.sequence import TokenSequence
from components.model_server.engine.slots import Slots
from components.model_server.engine.thread_tuner import ThreadTuner, seconds_waited_for_a_core
from components.model_server.engine.warm_up import warm_up
from components.model_server.guided_decoding.grammars import Grammars
from components.model_server.tool_calls.grammar import grammar_of

log = logging.getLogger(__name__)

# How long the engine's thread sleeps at most when there is nothing to do.
IDLE_SECONDS = 0.2
# Without a step for so long while there is work, the engine hangs: the pod should be replaced.
STUCK_SECONDS = 300.0
# Threads that render and tokenize prompts beside the one that computes.
PREPARING_THREADS = 2
MAX_RETRY_SECONDS = 60
STOPPING = "the server is stopping; ask again in a moment"


@dataclass(frozen=True)
class EngineSettings:
    """How a server shares its time and memory.

    ``itl_seconds`` is the latency between two tokens of an answer that the prompts of others may cause,
    ``idle_itl_seconds`` how long a prompt may compute at once while nothing is answered.
    """

    max_waiting: int = 64
    max_seconds: float = 600.0
    itl_seconds: float = 0.4
    idle_itl_seconds: float = 1.5
    prefix_cache_bytes: int = 512 << 20
    n_keys: int = 1


class BatchingEngine:
    """See ``Engine``. Each step gives every running answer a token, and prefills a chunk of the new prompts."""

    def __init__(
        self,
        model: GgufModel,
        settings: EngineSettings,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` gives the seconds by which requests time out."""
        context = model.context
        self._clock = clock
        self._model = model
        self._settings = settings
        self._metrics = metrics
        self._prefix_cache = PrefixCache(settings.prefix_cache_bytes)
        self._slots = Slots(context, self._prefix_cache)
        self._budget = PrefillBudget(
            itl_seconds=settings.itl_seconds, idle_itl_seconds=settings.idle_itl_seconds, n_batch=context.n_batch
        )
        self._batcher = DecodeBatcher()
        self._threads = ThreadTuner(context.n_threads, context.set_n_threads, waited=seconds_waited_for_a_core)
        self._scheduler = Scheduler(
            model, self._slots, self._budget, self._batcher, self._threads, metrics, clock=clock
        )
        self._queue: FairQueue[TokenSequence] = FairQueue(settings.max_waiting, settings.n_keys)
        # A slot is kept for each other key, up to half of them: no key's long answers hold all.
        self._max_slots_of_key = max(1, context.n_parallel - min(max(0, settings.n_keys - 1), context.n_parallel // 2))
        # Streams that are open: counted on asyncio's thread, where ``idle`` is asked for.
        self._n_open = 0
        # How long the sequence that was admitted last had waited.
        self._queue_seconds = 0.0
        self._outbox = Outbox()
        self._preparing = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare")
        self._grammars = Grammars(model)
        self._last_step = clock()
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._warm = threading.Event()
        self._work_to_do = threading.Event()
        metrics.watch(
            waiting=lambda: len(self._queue),
            running=lambda: self._scheduler.n_running,
            prefix_cache_bytes=lambda: self._prefix_cache.n_bytes,
            threads=lambda: self._threads.n_threads,
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
        return self._thread.is_alive() and self._clock() - self._last_step < STUCK_SECONDS

    @property
    def idle(self) -> bool:
        """See ``Engine``."""
        return self._n_open == 0

    def require_capacity(self, key: str) -> None:
        """See ``Engine``."""
        if not self._queue.has_capacity(key, self._n_free):
            raise self._queue_full()

    async def stream(self, request: Request) -> AsyncGenerator[Delta]:
        """See ``Engine``."""
        if self._draining.is_set():
            self._metrics.rejected.labels("stopping").inc()
            raise UnavailableError(STOPPING)
        # Before any work: a request that is refused costs nothing.
        if not self._queue.reserve(request.key, self._n_free):
            raise self._queue_full()
        self._n_open += 1
        try:
            async with aclosing(self._deltas(request)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self._n_open -= 1

    async def _deltas(self, request: Request) -> AsyncGenerator[Delta]:
        """The answer to a request for which capacity is reserved."""
        deltas: DeltaQueue = asyncio.Queue()
        sequence = None
        try:
            # A long prompt takes a while to render, and the streams of others must not wait for it.
            loop = asyncio.get_running_loop()
            preparing = loop.run_in_executor(self._preparing, self._prepare, request, loop, deltas)
            while not (await asyncio.wait({preparing}, timeout=HEARTBEAT_SECONDS))[0]:
                yield Delta("")
            sequence = preparing.result()
        finally:
            queued = self._queue.put(request.key, sequence)
        if not queued:
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
            sequence.abort.request()
            if self._queue.remove(lambda waiting: waiting is sequence):
                self._metrics.cancelled.inc()
            self._work_to_do.set()

    @property
    def _n_free(self) -> int:
        return self._model.context.n_parallel - self._scheduler.n_running

    def _queue_full(self) -> QueueFullError:
        self._metrics.rejected.labels("queue_full").inc()
        # What was admitted last waited as long as a full queue takes to empty. Drawn at random, so that the clients of
        # a crowd do not return at once.
        retry_after = min(MAX_RETRY_SECONDS, max(1, round(self._queue_seconds * random.uniform(0.25, 0.75))))
        return QueueFullError(f"{len(self._queue)} requests are waiting already; try again later", retry_after)

    def drain(self) -> None:
        """See ``Engine``."""
        self._draining.set()

    def stop(self) -> None:
        """See ``Engine``. A stream that has begun ends with ``length``, one that waits with an UnavailableError."""
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

    def _prepare(self, request: Request, loop: asyncio.AbstractEventLoop, deltas: DeltaQueue) -> TokenSequence:
        """The request as the scheduler takes it; its deltas go to ``deltas`` of ``loop``.

        Raises:
            PromptTooLongError: it fills the context, so there could be no answer.
            SchemaError: its JSON schema, or that of a tool, cannot be followed.
            LorryError: it is empty, or a bias is of no token.
        """
        require_tokens(self._model, request.sampling.logit_bias, "logit_bias")
        prompt = self._prompt_tokens(request)
        n_left = self._model.n_ctx - len(prompt)
        arrived = self._clock()
        return TokenSequence(
            request=request,
            prompt=prompt,
            max_tokens=n_left if request.max_tokens is None else min(request.max_tokens, n_left),
            arrived=arrived,
            deadline=arrived + self._settings.max_seconds,
            put=lambda item: self._outbox.put(loop, deltas, item),
            matcher=self._matcher(request),
            special_texts={} if request.tools is None else request.tools.call_format.specials,
        )

    def _matcher(self, request: Request) -> Any:
        """What says which tokens are allowed next; None where all are."""
        if request.tools is not None:
            grammar = grammar_of(
                request.tools, request.json_schema, self._grammars, in_reasoning=request.opens_reasoning
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
            # Clients recognize this error by the words "maximum context length is".
            raise PromptTooLongError(
                f"This model's maximum context length is {self._model.n_ctx} tokens, and the prompt has {len(tokens)}; "
                "shorten the conversation",
                "prompt" if request.is_text else "messages",
            )
        if not tokens:
            raise LorryError("the prompt is empty; send some text")
        return tokens

    def _work(self) -> None:
        """The engine's thread."""
        try:
            warm_up(self._model, self._budget, self._batcher)
            self._warm.set()
            while not self._stopping.is_set():
                self._last_step = self._clock()
                self._admit()
                if self._scheduler.n_running == 0:
                    self._work_to_do.wait(IDLE_SECONDS)
                    self._work_to_do.clear()
                    continue
                self._scheduler.step()
                self._outbox.send()
        finally:
            # Whatever has ended this thread: no stream may wait for ever.
            self._scheduler.stop()
            for sequence in self._queue.close():
                sequence.put(UnavailableError(STOPPING))
            self._outbox.send()

    def _admit(self) -> None:
        """Admit sequences that wait while there are free slots; fail those that have waited too long."""
        now = self._clock()
        for sequence in self._queue.remove(lambda sequence: now >= sequence.deadline):
            self._metrics.timed_out.inc()
            sequence.put(TimedOutError(f"no slot was free within {self._settings.max_seconds:g} s; ask again later"))
        self._outbox.send()
        while self._scheduler.can_admit:
            waiting = self._queue.take(self._scheduler.n_running_by_key(), self._max_slots_of_key)
            if waiting is None:
                return
            if waiting.cancelled:
                self._metrics.cancelled.inc()
            else:
                self._queue_seconds = now - waiting.arrived
                self._metrics.queue_seconds.observe(self._queue_seconds)
                self._scheduler.admit(waiting)
