"""A stand-in for a loaded model: it repeats the last message, and its memory is what the engine has put there.

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
from components.gguf.context import Abort, AbortedError, Rows
from components.gguf.sampling import Sampling

END, BEGIN_OF_TURN, END_OF_TURN = 0, 1, 2


class EchoDecoder:
    """Holds the tokens of each place; refuses what llama.cpp would refuse."""

    def __init__(self, n_places: int, n_rows: int) -> None:
        self.n_places, self.n_rows, self.n_threads = n_places, n_rows, 4
        self.context = self
        self.memory: list[list[int]] = [[] for _ in range(n_places)]
        self.steps: list[list[Rows]] = []
        self.broken = False
        self.forgets_all_or_nothing = False
        # Each decode takes one; a test that wants to set the pace empties it first.
        self.go = threading.Semaphore(1_000_000)
        self._rows: list[int] = []

    def decode(self, rows: Sequence[Rows], abort: Abort | None = None) -> list[int]:
        self.go.acquire()
        if abort is not None and abort.requested:
            for part in rows:
                self.memory[part.place] += part.tokens[: len(part.tokens) // 2]
            raise AbortedError("the computation was ended")
        if self.broken:
            for part in rows:
                self.forget(part.place)
            raise ModelError("llama.cpp cannot compute 1 rows (status -3); ask again")
        self.steps.append(list(rows))
        wanted: list[int] = []
        self._rows = []
        assert sum(len(part.tokens) for part in rows) <= self.n_rows
        for part in rows:
            assert part.start == len(self.memory[part.place]), "a place goes on where it ended"
            self.memory[part.place].extend(part.tokens)
            wanted += [len(self._rows) + i for i, w in enumerate(part.wanted) if w]
            self._rows += [part.place] * len(part.tokens)
        return wanted

    def next_token(self, row: int) -> int:
        """The characters of the last turn, one after the other."""
        tokens = self.memory[self._rows[row]]
        end = len(tokens) - 1 - tokens[::-1].index(END_OF_TURN)
        begin = end - 1 - tokens[:end][::-1].index(BEGIN_OF_TURN)
        turn, n_said = tokens[begin + 1 : end], len(tokens) - end - 1
        return turn[n_said] if n_said < len(turn) else END

    def use_threads(self, n_threads: int) -> None:
        self.n_threads = n_threads

    def forget(self, place: int, keep: int = 0) -> bool:
        if keep and self.forgets_all_or_nothing:
            return False
        del self.memory[place][keep:]
        return True

    def state(self, place: int) -> NDArray[np.uint8]:
        return np.frombuffer(np.array(self.memory[place], dtype=np.int32).tobytes(), dtype=np.uint8)

    def restore(self, place: int, state: NDArray[np.uint8]) -> bool:
        self.memory[place] = np.frombuffer(state.tobytes(), dtype=np.int32).tolist()
        return True


class EchoSampler:
    def __init__(self) -> None:
        self.closed = False

    def sample(self, context: EchoDecoder, row: int) -> int:
        return context.next_token(row)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class EchoModel:
    """Each character is a token."""

    def __init__(self, *, n_places: int = 4, n_ctx: int = 256, n_rows: int = 64) -> None:
        self.n_ctx, self.n_vocab, self.vocab = n_ctx, 256, None
        self.decoder = EchoDecoder(n_places, n_rows)
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
        self.decoder.go = threading.Semaphore(n_steps)
        self.decoder.steps.clear()
        return self.decoder.go
