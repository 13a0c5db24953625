"""Continuous batching: a step decodes one token of every running answer, then prefills a chunk of the new prompts.

A long prompt is prefilled in chunks between the tokens of the others, so it stalls nobody; ``PrefillBudget`` says how
large a chunk may be. All of this happens on the one thread that owns the model.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from components.errors import LorryError, ModelError
from components.gguf.context import AbortedError, BatchItem
from components.gguf.model import GgufModel
from components.model_server.engine.decode_batcher import DecodeBatcher
from components.model_server.engine.interface import Delta, FinishReason, TimedOutError, UnavailableError
from components.model_server.engine.logprobs import Logprobs
from components.model_server.engine.metrics import Metrics
from components.model_server.engine.prefill_budget import CHUNK_SIZES, PrefillBudget
from components.model_server.engine.sequence import TokenSequence
from components.model_server.engine.slots import Slots
from components.model_server.engine.thread_tuner import ThreadTuner

log = logging.getLogger(__name__)

# The shortest prompt goes first, but every so many chunks it is the oldest: none starves.
CHUNKS_BETWEEN_TURNS_OF_THE_OLDEST = 4


class Scheduler:
    """The sequences that run now; whoever calls ``step`` owns the model's thread."""

    def __init__(
        self,
        model: GgufModel,
        slots: Slots,
        budget: PrefillBudget,
        batcher: DecodeBatcher,
        threads: ThreadTuner,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._model = model
        self._slots = slots
        self._budget = budget
        self._batcher = batcher
        self._threads = threads
        self._metrics = metrics
        self._logprobs = Logprobs(model)
        # A running sequence is in one of the two lists, in the order of admission: in the first until its whole prompt
        # is computed. Those of the first have a slot once a chunk of them was computed, those of the second always.
        self._prefilling: list[TokenSequence] = []
        self._decoding: list[TokenSequence] = []
        self._n_chunks = 0

    @property
    def n_running(self) -> int:
        """Sequences that are admitted and have not ended."""
        return len(self._prefilling) + len(self._decoding)

    def n_running_by_key(self) -> Counter[str]:
        """The same for each API key that has any."""
        return Counter(sequence.request.key for sequence in [*self._prefilling, *self._decoding])

    @property
    def can_admit(self) -> bool:
        """True when there is a slot for another sequence."""
        return self._slots.n_free > sum(sequence.slot is None for sequence in self._prefilling)

    def admit(self, sequence: TokenSequence) -> None:
        """Run a sequence from now on; there must be a slot for it."""
        sequence.n_cached = self._slots.n_cached(sequence.prompt)
        self._prefilling.append(sequence)

    def step(self) -> None:
        """One token for every running answer, then as much of the prompts as the budget allows."""
        self._end_cancelled_and_late()
        self._prefill(self._decode())

    def stop(self) -> None:
        """End every sequence now: with ``length`` where tokens were generated, else with an UnavailableError."""
        for sequence in [*self._decoding]:
            self._finish(sequence, "length")
        for sequence in [*self._prefilling]:
            self._fail(sequence, UnavailableError("the server is stopping; ask again in a moment"))

    def _end_cancelled_and_late(self) -> None:
        now = self._clock()
        for sequence in [*self._prefilling, *self._decoding]:
            if sequence.cancelled:
                self._metrics.cancelled.inc()
                self._release(sequence)
            elif now >= sequence.deadline:
                self._metrics.timed_out.inc()
                if sequence in self._decoding:
                    self._finish(sequence, "length")
                else:
                    self._fail(sequence, TimedOutError("the prompt was not computed within the time of a request"))

    def _decode(self) -> float | None:
        """The next token of every sequence that generates; the seconds it took, None when there was none."""
        sequences = sorted(self._decoding, key=lambda sequence: sequence.running_slot.seq_id)
        if not sequences:
            return None
        started = self._clock()
        for size in self._batcher.sizes(len(sequences)):
            batch, sequences = sequences[:size], sequences[size:]
            self._decode_batch(batch)
        return self._clock() - started

    def _decode_batch(self, sequences: list[TokenSequence]) -> None:
        started = self._clock()
        try:
            indices = self._model.context.decode([_next_item(sequence) for sequence in sequences])
        except ModelError as error:
            for sequence in sequences:
                self._fail(sequence, error)
            return
        seconds = self._clock() - started
        self._batcher.learn(len(sequences), seconds)
        self._threads.learn(seconds)
        for sequence, index in zip(sequences, indices, strict=True):
            sequence.running_slot.tokens.append(sequence.next_token)
            self._sample(sequence, index)

    def _prefill(self, decode_seconds: float | None) -> None:
        """Compute as much of the prompts as the budget allows; a prompt that is complete gets its first token."""
        n_left = None
        while self._prefilling and (n_left is None or n_left >= CHUNK_SIZES[0]):
            sequence = self._next_to_prefill()
            if n_left is None:
                pos = len(sequence.prompt) - sequence.n_prompt_left
                n_left = self._budget.n_tokens(
                    decode_seconds=decode_seconds, pos=pos, n_prefilling=len(self._prefilling)
                )
            n_computed = 0
            with self._failing_alone(sequence):
                n_computed = self._prefill_chunk(sequence, n_left)
            if n_computed == 0 or (decode_seconds is None and sequence in self._decoding):
                return  # it failed, or it now waits for its second token
            n_left -= n_computed

    def _next_to_prefill(self) -> TokenSequence:
        self._n_chunks += 1
        if self._n_chunks % CHUNKS_BETWEEN_TURNS_OF_THE_OLDEST == 0:
            return self._prefilling[0]
        return min(self._prefilling, key=lambda sequence: sequence.n_prompt_left)

    def _prefill_chunk(self, sequence: TokenSequence, n_tokens: int) -> int:
        """Compute at most ``n_tokens`` of a prompt, and return how many were computed."""
        if sequence.slot is None:
            self._give_slot(sequence)
        slot, prompt, wants_all = sequence.running_slot, sequence.prompt, sequence.wants_prompt_logprobs
        pos = len(slot.tokens)
        chunk = prompt[pos : pos + (min(n_tokens, self._model.context.n_outputs) if wants_all else n_tokens)]
        is_last = pos + len(chunk) == len(prompt)
        started = self._clock()
        item = BatchItem(slot.seq_id, chunk, pos, [*[wants_all] * (len(chunk) - 1), is_last or wants_all])
        indices = self._model.context.decode([item], sequence.abort)
        seconds = self._clock() - started
        self._budget.learn(len(chunk), seconds, pos=pos)
        self._threads.learn(seconds)
        self._metrics.prompt_tokens.labels("computed").inc(len(chunk))
        slot.tokens.extend(chunk)
        if wants_all:
            self._add_prompt_logprobs(sequence, pos, len(chunk), indices)
        if is_last:
            self._start_decoding(sequence, indices[-1])
        return len(chunk)

    def _give_slot(self, sequence: TokenSequence) -> None:
        # Logits cannot be had of tokens that are shared: an echo of the prompt with them shares nothing.
        shareable = sequence.prompt[:1] if sequence.wants_prompt_logprobs else sequence.prompt
        sequence.slot = self._slots.acquire(shareable)
        sequence.n_cached = len(sequence.slot.tokens)
        sequence.sampler = self._model.sampler(sequence.request.sampling, sequence.matcher)
        self._metrics.prompt_tokens.labels("cached").inc(sequence.n_cached)
        self._metrics.prefix_hits.inc(1 if sequence.n_cached else 0)

    def _start_decoding(self, sequence: TokenSequence, index: int) -> None:
        """Move a sequence whose prompt is complete to those that decode; ``index`` has the logits after its prompt."""
        if sequence.request.echo:
            sequence.send(self._prompt_text(sequence))
        self._prefilling.remove(sequence)
        self._decoding.append(sequence)
        if sequence.max_tokens == 0:
            self._finish(sequence, "length")
        else:
            self._sample(sequence, index)

    def _add_prompt_logprobs(self, sequence: TokenSequence, pos: int, n: int, indices: Sequence[int]) -> None:
        """Keep the log probabilities of prompt tokens: the logits at each of ``indices`` predict the token after it."""
        prompt, n_top = sequence.prompt, sequence.request.top_logprobs or 0
        if pos == 0:
            sequence.logprobs.append(self._logprobs.of_first(prompt[0]))
        predicted = zip(indices, prompt[pos + 1 : pos + n + 1], strict=False)
        sequence.logprobs += [self._logprobs.of(index, token, n_top) for index, token in predicted]

    def _prompt_text(self, sequence: TokenSequence) -> str:
        if isinstance(sequence.request.prompt, str):
            return sequence.request.prompt
        return b"".join(self._model.piece(token) for token in sequence.prompt).decode(errors="replace")

    def _sample(self, sequence: TokenSequence, index: int) -> None:
        """Draw the token after the one at ``index`` of the batch; the sequence ends here, or decodes on."""
        with self._failing_alone(sequence):
            token = sequence.sampler.sample(self._model.context, index)
            # The end of a text is one of its tokens for whoever measures it; that of a chat is no part of the answer.
            ends_chat = self._model.is_end(token) and not sequence.request.is_text
            if sequence.request.top_logprobs is not None and not ends_chat:
                sequence.logprobs.append(self._logprobs.of(index, token, sequence.request.top_logprobs))
            self._add_token(sequence, token)

    def _add_token(self, sequence: TokenSequence, token: int) -> None:
        now = self._clock()
        if sequence.n_generated == 0:
            self._metrics.first_token_seconds.observe(now - sequence.arrived)
        else:
            self._metrics.inter_token_seconds.observe(now - sequence.last_token_time)
        sequence.last_token_time = now
        if self._model.is_end(token):
            self._finish(sequence, "stop")
            return
        sequence.n_generated += 1
        self._metrics.completion_tokens.inc()
        special_text = sequence.special_texts.get(token)
        piece = self._model.piece(token) if special_text is None else special_text.encode()
        text = sequence.stop_filter.feed(piece)
        if sequence.stop_filter.stopped:
            self._finish(sequence, "stop", text)
        elif sequence.n_generated >= sequence.max_tokens:
            self._finish(sequence, "length", text)
        else:
            sequence.next_token = token
            sequence.send(text)

    def _finish(self, sequence: TokenSequence, reason: FinishReason, text: str = "") -> None:
        text += sequence.stop_filter.rest()
        counts = len(sequence.prompt), sequence.n_generated, sequence.n_cached
        sequence.put(Delta(text, reason, *counts, sequence.logprobs))
        self._metrics.finished.labels(reason).inc()
        self._release(sequence)

    @contextmanager
    def _failing_alone(self, sequence: TokenSequence) -> Iterator[None]:
        """An error within goes to the client of this sequence, and the others go on."""
        try:
            yield
        except AbortedError:  # its client has gone, and the next step ends it
            self._slots.drop_uncommitted(sequence.running_slot)
        except Exception as error:
            if not isinstance(error, LorryError):
                log.exception("a request failed")
            self._fail(sequence, error)

    def _fail(self, sequence: TokenSequence, error: Exception) -> None:
        sequence.put(error)
        self._metrics.finished.labels("error").inc()
        if sequence.slot is not None and not isinstance(error, UnavailableError | TimedOutError):
            self._slots.clear(sequence.slot)  # the KV cache may not hold what its tokens say
        self._release(sequence)

    def _release(self, sequence: TokenSequence) -> None:
        for running in (self._prefilling, self._decoding):
            if sequence in running:
                running.remove(sequence)
        if sequence.slot is not None:
            self._slots.release(sequence.slot)
        if sequence.sampler is not None:
            sequence.sampler.close()
            sequence.sampler = None


def _next_item(sequence: TokenSequence) -> BatchItem:
    """The token that a sequence decodes next."""
    slot = sequence.running_slot
    return BatchItem(slot.seq_id, [sequence.next_token], len(slot.tokens), [True])
