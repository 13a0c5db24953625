"""One request as the scheduler sees it: token ids, and how far they are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.gguf.context import Abort
from components.model_server.engine.interface import Delta, Request, TokenLogprob
from components.model_server.engine.slots import Slot
from components.model_server.engine.stop_strings import StopStringFilter


@dataclass(eq=False)
class TokenSequence:
    """The tokens of one request: its prompt, which is prefilled, and then those that are generated, one in a step.

    It waits in the queue, is admitted by the scheduler, gets a slot with its first prefill chunk, and releases the slot
    at its end. The slot's tokens are those that are computed: the first ones of the prompt, later the whole prompt and
    all that was generated but ``next_token``. Times are of the engine's clock, in seconds.
    """

    request: Request
    # Token ids, at least one; with the answer they fit into the context.
    prompt: Sequence[int]
    # At most so many tokens are generated.
    max_tokens: int
    arrived: float
    deadline: float
    # Takes the deltas in their order, or the error that ends the sequence.
    put: Callable[[Delta | Exception], None]
    # llguidance's, which says which tokens are allowed next; None: all are.
    matcher: Any = None
    # Special tokens whose text is a part of the answer: the template writes calls of tools with them.
    special_texts: Mapping[int, str] = field(default_factory=dict)
    abort: Abort = field(default_factory=Abort)

    # None until the first prefill chunk.
    slot: Slot | None = field(default=None, init=False)
    sampler: Any = field(default=None, init=False)
    # Tokens of the prompt that were in a slot or in the prefix cache: until it has a slot, when it was admitted.
    n_cached: int = field(default=0, init=False)
    n_generated: int = field(default=0, init=False)
    # Generated last, and the input of the next decode.
    next_token: int = field(default=0, init=False)
    last_token_time: float = field(default=0.0, init=False)
    # Of tokens whose text is not sent yet.
    logprobs: list[TokenLogprob] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.stop_filter = StopStringFilter(self.request.stop)

    @property
    def cancelled(self) -> bool:
        """True once its client has gone."""
        return self.abort.requested

    @property
    def wants_prompt_logprobs(self) -> bool:
        """True when the prompt is a part of the answer, with its log probabilities: all of it is computed."""
        return self.request.echo and self.request.top_logprobs is not None

    @property
    def n_prompt_left(self) -> int:
        """Tokens of the prompt that are still to be computed."""
        return len(self.prompt) - (len(self.slot.tokens) if self.slot else self.n_cached)

    @property
    def running_slot(self) -> Slot:
        """The slot of a sequence whose prefill has begun."""
        assert self.slot is not None
        return self.slot

    def send(self, text: str) -> None:
        """Put a delta, once there is text."""
        if text:
            self.put(Delta(text, logprobs=self.logprobs))
            self.logprobs = []
