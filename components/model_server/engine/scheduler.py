"""One step after the other: every running answer gets its next token, and waiting prompts get the rows that are left.

A long prompt is read in pieces between the tokens of the others, so it stalls nobody; ``Pace`` says how large a piece
may be. All of this happens on the one thread that owns the model.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.errors import LorryError, ModelError
from components.gguf.context import Abort, AbortedError, Rows
from components.gguf.model import GgufModel
from components.model_server.engine.decode_batcher import Batches
from components.model_server.engine.interface import (
    Delta,
    FinishReason,
    Request,
    TimedOutError,
    TokenLogprob,
    UnavailableError,
)
from components.model_server.engine.logprobs import Logprobs
from components.model_server.engine.metrics import Metrics
from components.model_server.engine.prefill_budget import SIZES, Pace
from components.model_server.engine.slots import Place, Places
from components.model_server.engine.stop_strings import StoppingText
from components.model_server.engine.thread_tuner import Threads

log = logging.getLogger(__name__)

# The shortest prompt goes first, but every so many chunks the oldest has its turn: none starves.
CHUNKS_BETWEEN_TURNS_OF_THE_OLDEST = 4


@dataclass(eq=False)
class Job:
    """One request, its prompt in tokens, and where its deltas go. ``deadline`` is a time of ``time.monotonic``.

    Special tokens in ``spelled`` are a part of the answer's text: the template writes calls of tools with them.
    """

    request: Request
    prompt: Sequence[int]
    limit: int
    deadline: float
    put: Callable[[Delta | Exception], None]
    matcher: Any = None
    spelled: Mapping[int, str] = field(default_factory=dict)
    arrived: float = field(default_factory=time.monotonic)
    abort: Abort = field(default_factory=Abort)

    @property
    def cancelled(self) -> bool:
        """True once its client has gone."""
        return self.abort.requested

    @property
    def wants_prompt_logprobs(self) -> bool:
        """True when the prompt is a part of the answer, with its log probabilities: all of it is computed."""
        return self.request.echo and self.request.top_logprobs is not None


class Answer:
    """One job on its way: first its prompt is read, then tokens follow."""

    def __init__(self, job: Job, n_known: int) -> None:
        self.job = job
        self.n_known = n_known
        self.n_cached = 0
        self.n_said = 0
        self.next_token = 0
        self.last_time = job.arrived
        self.text = StoppingText(job.request.stop)
        # Of tokens whose text is not sent yet.
        self.logprobs: list[TokenLogprob] = []
        self.place: Place | None = None
        self.sampler: Any = None

    @property
    def n_unread(self) -> int:
        """Tokens of the prompt that are still to be computed."""
        return len(self.job.prompt) - (len(self.place.tokens) if self.place else self.n_known)

    def put(self, text: str) -> None:
        """Send a delta, once there is text."""
        if text:
            self.job.put(Delta(text, logprobs=self.logprobs))
            self.logprobs = []


class Scheduler:
    """What runs now; whoever calls ``step`` owns the model's thread."""

    def __init__(
        self, model: GgufModel, places: Places, pace: Pace, batches: Batches, threads: Threads, metrics: Metrics
    ) -> None:
        self._model = model
        self._places = places
        self._pace = pace
        self._batches = batches
        self._threads = threads
        self._metrics = metrics
        self._logprobs = Logprobs(model)
        self._reading: list[Answer] = []
        self._answering: list[Answer] = []
        self._n_chunks = 0

    @property
    def n_running(self) -> int:
        """Jobs that have begun and have not ended."""
        return len(self._reading) + len(self._answering)

    def n_running_of_keys(self) -> Counter[str]:
        """The same for each key that has any."""
        return Counter(answer.job.request.key for answer in [*self._reading, *self._answering])

    @property
    def has_room(self) -> bool:
        """True when another job may begin."""
        return self._places.n_free > sum(answer.place is None for answer in self._reading)

    def begin(self, job: Job) -> None:
        """Take a job; there must be room."""
        self._reading.append(Answer(job, self._places.known(job.prompt)))

    def step(self) -> None:
        """One token for every running answer, then as much of the prompts as the pace allows."""
        self._let_go()
        self._read(self._answer())

    def stop(self) -> None:
        """End every answer now: ``length`` where something was said, an UnavailableError where nothing was."""
        for answer in [*self._answering]:
            self._finish(answer, "length")
        for answer in [*self._reading]:
            self._fail(answer, UnavailableError("the server is stopping; ask again in a moment"))

    def _let_go(self) -> None:
        """Free the places of clients that went away and of deadlines that passed."""
        now = time.monotonic()
        for answer in [*self._reading, *self._answering]:
            if answer.job.cancelled:
                self._metrics.cancelled.inc()
                self._release(answer)
            elif now >= answer.job.deadline:
                self._metrics.deadlines.inc()
                if answer in self._answering:
                    self._finish(answer, "length")
                else:
                    self._fail(answer, TimedOutError("the prompt was not read within the time of a request"))

    def _answer(self) -> float | None:
        """The next token of every answer that has one to come; give the seconds, None when there was none."""
        answers = sorted(self._answering, key=_place_number)
        if not answers:
            return None
        started = time.monotonic()
        for size in self._batches.sizes(len(answers)):
            batch, answers = answers[:size], answers[size:]
            self._answer_batch(batch)
        return time.monotonic() - started

    def _answer_batch(self, answers: list[Answer]) -> None:
        started = time.monotonic()
        try:
            logits = self._model.decoder.decode([_row(answer) for answer in answers])
        except ModelError as error:
            for answer in answers:
                self._fail(answer, error)
            return
        seconds = time.monotonic() - started
        self._batches.took(len(answers), seconds)
        self._threads.computed(seconds)
        for answer, row in zip(answers, logits, strict=True):
            _place(answer).tokens.append(answer.next_token)
            self._sample(answer, row)

    def _read(self, answering_seconds: float | None) -> None:
        """Compute as much of the prompts as the pace allows; a prompt that is read gets its first token."""
        n_rows = None
        while self._reading and (n_rows is None or n_rows >= SIZES[0]):
            answer = self._next_to_read()
            if n_rows is None:
                start = len(answer.job.prompt) - answer.n_unread
                n_rows = self._pace.rows(answering_seconds=answering_seconds, start=start, n_reading=len(self._reading))
            try:
                n_rows -= self._read_chunk(answer, n_rows)
            except AbortedError:  # its client has gone; the next step lets go of it
                self._places.forget_rest(_place(answer))
                return
            except Exception as error:  # the client must hear of it, and the others must go on
                if not isinstance(error, LorryError):
                    log.exception("a request failed")
                self._fail(answer, error)
                return
            if answering_seconds is None and answer in self._answering:
                return  # now somebody waits

    def _next_to_read(self) -> Answer:
        self._n_chunks += 1
        if self._n_chunks % CHUNKS_BETWEEN_TURNS_OF_THE_OLDEST == 0:
            return self._reading[0]
        return min(self._reading, key=lambda answer: answer.n_unread)

    def _read_chunk(self, answer: Answer, n_rows: int) -> int:
        prompt = answer.job.prompt
        if answer.place is None:
            # What is shared has no logits any more.
            answer.place = self._places.take(prompt[:1] if answer.job.wants_prompt_logprobs else prompt)
            answer.n_cached = len(answer.place.tokens)
            answer.sampler = self._model.sampler(answer.job.request.sampling, answer.job.matcher)
            self._metrics.prompt_tokens.labels("cached").inc(answer.n_cached)
            self._metrics.prefix_hits.inc(1 if answer.n_cached else 0)
        start = len(answer.place.tokens)
        wants_all = answer.job.wants_prompt_logprobs
        chunk = prompt[start : start + (min(n_rows, self._model.decoder.n_outputs) if wants_all else n_rows)]
        is_last = start + len(chunk) == len(prompt)
        started = time.monotonic()
        rows = Rows(answer.place.number, chunk, start, [*[wants_all] * (len(chunk) - 1), is_last or wants_all])
        logits = self._model.decoder.decode([rows], answer.job.abort)
        seconds = time.monotonic() - started
        self._pace.prompt_rows_took(len(chunk), seconds, start=start)
        self._threads.computed(seconds)
        self._metrics.prompt_tokens.labels("computed").inc(len(chunk))
        answer.place.tokens.extend(chunk)
        if wants_all:
            self._note_prompt(answer, start, len(chunk), logits)
        if is_last:
            if answer.job.request.echo:
                answer.put(self._prompt_text(answer.job))
            self._reading.remove(answer)
            self._answering.append(answer)
            if answer.job.limit == 0:
                self._finish(answer, "length")
            else:
                self._sample(answer, logits[-1])
        return len(chunk)

    def _note_prompt(self, answer: Answer, start: int, n: int, rows: Sequence[int]) -> None:
        """Keep the log probabilities of a prompt's tokens: each is foretold by the row before it."""
        prompt, n_top = answer.job.prompt, answer.job.request.top_logprobs or 0
        if start == 0:
            answer.logprobs.append(self._logprobs.of_first(prompt[0]))
        followed = zip(rows, prompt[start + 1 : start + n + 1], strict=False)
        answer.logprobs += [self._logprobs.of(row, token, n_top) for row, token in followed]

    def _prompt_text(self, job: Job) -> str:
        if isinstance(job.request.prompt, str):
            return job.request.prompt
        return b"".join(self._model.piece(token) for token in job.prompt).decode(errors="replace")

    def _sample(self, answer: Answer, row: int) -> None:
        """Draw the token after a row; the answer ends here, or waits for the next step."""
        try:
            token = answer.sampler.sample(self._model.decoder.context, row)
            # What ends a text is one of its tokens for who measures it; of a chat it is no part.
            ends_chat = self._model.is_end(token) and not answer.job.request.is_text
            if answer.job.request.top_logprobs is not None and not ends_chat:
                answer.logprobs.append(self._logprobs.of(row, token, answer.job.request.top_logprobs))
            self._say(answer, token)
        except Exception as error:  # the client must hear of it, and the others must go on
            if not isinstance(error, LorryError):
                log.exception("a request failed")
            self._fail(answer, error)

    def _say(self, answer: Answer, token: int) -> None:
        now = time.monotonic()
        if answer.n_said == 0:
            self._metrics.first_token_seconds.observe(now - answer.job.arrived)
        else:
            self._metrics.between_tokens_seconds.observe(now - answer.last_time)
        answer.last_time = now
        if self._model.is_end(token):
            self._finish(answer, "stop")
            return
        answer.n_said += 1
        self._metrics.completion_tokens.inc()
        spelled = answer.job.spelled.get(token)
        text = answer.text.feed(self._model.piece(token) if spelled is None else spelled.encode())
        if answer.text.stopped:
            self._finish(answer, "stop", text)
        elif answer.n_said >= answer.job.limit:
            self._finish(answer, "length", text)
        else:
            answer.next_token = token
            answer.put(text)

    def _finish(self, answer: Answer, reason: FinishReason, text: str = "") -> None:
        text += answer.text.rest()
        counts = len(answer.job.prompt), answer.n_said, answer.n_cached
        answer.job.put(Delta(text, reason, *counts, answer.logprobs))
        self._metrics.finished.labels(reason).inc()
        self._release(answer)

    def _fail(self, answer: Answer, error: Exception) -> None:
        answer.job.put(error)
        self._metrics.finished.labels("error").inc()
        if answer.place is not None and not isinstance(error, UnavailableError | TimedOutError):
            self._places.clear(answer.place)  # who knows what it holds
        self._release(answer)

    def _release(self, answer: Answer) -> None:
        for running in (self._reading, self._answering):
            if answer in running:
                running.remove(answer)
        if answer.place is not None:
            self._places.give_back(answer.place)
        if answer.sampler is not None:
            answer.sampler.close()
            answer.sampler = None


def _place(answer: Answer) -> Place:
    assert answer.place is not None
    return answer.place


def _place_number(answer: Answer) -> int:
    return _place(answer).number


def _row(answer: Answer) -> Rows:
    place = _place(answer)
    return Rows(place.number, [answer.next_token], len(place.tokens), [True])
