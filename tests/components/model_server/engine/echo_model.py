"""A stand-in for a loaded model: it repeats the last message, and its KV cache is what the engine has put there.

Whatever the engine shares or mixes up between conversations shows in the words that come back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.gguf.context import Abort, AbortedError, BatchItem
from components.gguf.sampling import Sampling

END, BEGIN_OF_TURN, END_OF_TURN = 0, 1, 2


class EchoContext:
    """Holds the tokens of each sequence; refuses what llama.cpp would refuse."""

    def __init__(self, n_parallel: int, n_batch: int) -> None:
        self.n_parallel, self.n_batch, self.n_threads, self.n_outputs = n_parallel, n_batch, 4, n_batch
        self.cache: list[list[int]] = [[] for _ in range(n_parallel)]
        self.steps: list[list[BatchItem]] = []
        self.broken = False
        self.removes_all_or_nothing = False
        # Each decode takes one; a test that wants to set the pace empties it first.
        self.go = threading.Semaphore(1_000_000)
        self._seq_ids: list[int] = []

    def decode(self, items: Sequence[BatchItem], abort: Abort | None = None) -> list[int]:
        self.go.acquire()
        if abort is not None and abort.requested:
            for item in items:
                self.cache[item.seq_id] += item.tokens[: len(item.tokens) // 2]
            raise AbortedError("the computation was ended")
        if self.broken:
            for item in items:
                self.seq_rm(item.seq_id)
            raise ModelError("llama.cpp cannot compute 1 tokens (status -3); ask again")
        self.steps.append(list(items))
        indices: list[int] = []
        self._seq_ids = []
        assert sum(len(item.tokens) for item in items) <= self.n_batch
        for item in items:
            assert item.pos == len(self.cache[item.seq_id]), "a sequence goes on where it ended"
            self.cache[item.seq_id].extend(item.tokens)
            indices += [len(self._seq_ids) + i for i, wanted in enumerate(item.logits) if wanted]
            self._seq_ids += [item.seq_id] * len(item.tokens)
        return indices

    def next_token(self, index: int) -> int:
        """The characters of the last turn, one after the other."""
        tokens = self.cache[self._seq_ids[index]]
        end = len(tokens) - 1 - tokens[::-1].index(END_OF_TURN)
        begin = end - 1 - tokens[:end][::-1].index(BEGIN_OF_TURN)
        turn, n_generated = tokens[begin + 1 : end], len(tokens) - end - 1
        return turn[n_generated] if n_generated < len(turn) else END

    def set_n_threads(self, n_threads: int) -> None:
        self.n_threads = n_threads

    def seq_rm(self, seq_id: int, p0: int = 0) -> bool:
        if p0 and self.removes_all_or_nothing:
            return False
        del self.cache[seq_id][p0:]
        return True

    def state_seq_get(self, seq_id: int) -> NDArray[np.uint8]:
        return np.frombuffer(np.array(self.cache[seq_id], dtype=np.int32).tobytes(), dtype=np.uint8)

    def state_seq_set(self, seq_id: int, state: NDArray[np.uint8]) -> bool:
        self.cache[seq_id] = np.frombuffer(state.tobytes(), dtype=np.int32).tolist()
        return True


class EchoSampler:
    def __init__(self) -> None:
        self.closed = False

    def sample(self, context: EchoContext, index: int) -> int:
        return context.next_token(index)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class EchoModel:
    """Each character is a token."""

    def __init__(self, *, n_parallel: int = 4, n_ctx: int = 256, n_batch: int = 64) -> None:
        self.n_ctx, self.n_vocab, self.vocab = n_ctx, 256, None
        self.context = EchoContext(n_parallel, n_batch)
        self.samplers: list[EchoSampler] = []
        self.closed = False

    def prompt(self, messages: Sequence[Message], **_: Any) -> str:
        return "".join(f"{chr(BEGIN_OF_TURN)}{message.content}{chr(END_OF_TURN)}" for message in messages)

    def tokenize(self, text: str, *, special: bool, begin: bool = False) -> list[int]:
        tokens = list(map(ord, text))
        return tokens if special or not tokens else [BEGIN_OF_TURN, *tokens, END_OF_TURN]

    def sampler(self, sampling: Sampling, matcher: Any = None) -> EchoSampler:
        self.samplers.append(EchoSampler())
        return self.samplers[-1]

    def generate(self, tokens: Sequence[int], sampling: Sampling) -> Iterator[int]:
        yield from [ord("x")] * 20

    def is_end(self, token: int) -> bool:
        return token == END

    def piece(self, token: int) -> bytes:
        return chr(token).encode()

    def close(self) -> None:
        self.closed = True

    def begin_from_here(self, n_steps: int = 0) -> Any:
        """From now on a decode waits until ``go`` is released; ``n_steps`` are free."""
        self.context.go = threading.Semaphore(n_steps)
        self.context.steps.clear()
        return self.context.go
