"""Where conversations lie in memory, and what of them a new prompt can share.

A *place* holds the keys and values of one conversation and keeps them when its answer has ended: the next turn of the
same chat, or another chat with the same system prompt, computes only what is new. What has to leave a place goes
into a bounded store of copies, from which the least recently used goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# A copy costs milliseconds, and so does a token on a CPU: fewer than this are computed as fast.
WORTH_COPYING = 4


class Memory(Protocol):
    """What of a decoder the places need."""

    n_places: int

    def forget(self, place: int, keep: int = 0) -> bool:
        """Drop what a place holds behind its first ``keep`` tokens; False: it can only forget all."""

    def state(self, place: int) -> NDArray[np.uint8]:
        """A copy of everything that a place holds."""

    def restore(self, place: int, state: NDArray[np.uint8]) -> bool:
        """Give a place what ``state`` has copied."""


@dataclass
class Place:
    """``tokens`` are those whose keys and values lie there, in order."""

    number: int
    tokens: list[int] = field(default_factory=list)
    taken: bool = False
    last_used: int = 0


@dataclass(frozen=True)
class _Copy:
    tokens: list[int]
    state: NDArray[np.uint8]


class Places:
    """All places of a decoder."""

    def __init__(self, memory: Memory, *, copies_bytes: int) -> None:
        """Copies of what left its place may take ``copies_bytes``; ``bytes_of_copies`` is what they take now."""
        self._memory = memory
        self._places = [Place(number) for number in range(memory.n_places)]
        self._copies: OrderedDict[tuple[int, ...], _Copy] = OrderedDict()
        self._copies_bytes = copies_bytes
        self.bytes_of_copies = 0
        self._clock = 0

    @property
    def n_free(self) -> int:
        """Places that nobody is answered in."""
        return sum(not place.taken for place in self._places)

    def known(self, prompt: Sequence[int]) -> int:
        """How many of the prompt's first tokens lie in memory anywhere."""
        usable = list(prompt[:-1])
        held = [place.tokens for place in self._places] + [copy.tokens for copy in self._copies.values()]
        return max(common_length(tokens, usable) for tokens in held)

    def take(self, prompt: Sequence[int]) -> Place:
        """A free place that holds as much of the prompt's beginning as is known anywhere, and nothing else.

        The last token is never shared: its logits have to be computed. There must be a free place.
        """
        usable = list(prompt[:-1])
        free = [place for place in self._places if not place.taken]
        own = max(free, key=lambda place: (common_length(place.tokens, usable), -place.last_used))
        n_own = common_length(own.tokens, usable)
        # Of two that share as much the shorter one is copied sooner.
        other = max(self._places, key=lambda place: (common_length(place.tokens, usable), -len(place.tokens)))
        n_other = common_length(other.tokens, usable)
        copies = self._copies.values()
        copy = max(copies, key=lambda copy: (common_length(copy.tokens, usable), -len(copy.tokens)), default=None)
        n_copy = common_length(copy.tokens, usable) if copy else 0
        best = max(n_own, n_other, n_copy)
        if n_own >= best - WORTH_COPYING and self._may_be_cut(own, n_own):
            return self._cut(own, n_own)
        target = min(free, key=lambda place: (place.tokens != [], place.last_used))
        if best < WORTH_COPYING:
            return self._cut(target, 0)
        # The state is read before the target is emptied: it may be the target's own.
        if copy is not None and n_copy > n_other:
            self._copies.move_to_end(tuple(copy.tokens))
            tokens, state = list(copy.tokens), copy.state
        else:
            other.last_used = self._tick()
            tokens, state = list(other.tokens), self._memory.state(other.number)
        self._keep_copy(target)
        target.tokens = []
        if not self._memory.restore(target.number, state):
            return self._cut(target, 0)
        target.tokens = tokens
        return self._cut(target, best, keep_copy=False)

    def give_back(self, place: Place) -> None:
        """Its answer has ended; what it holds stays until the place is needed."""
        place.taken = False
        place.last_used = self._tick()

    def forget_rest(self, place: Place) -> None:
        """Computing behind its tokens was ended in the middle: drop what it has left there."""
        if not self._memory.forget(place.number, len(place.tokens)):
            self.clear(place)

    def clear(self, place: Place) -> None:
        """What it holds is not what ``tokens`` says: forget it."""
        self._memory.forget(place.number)
        place.tokens = []

    def _may_be_cut(self, place: Place, n_shared: int) -> bool:
        """Whether a place may lose what lies behind the shared part: little, or nowhere else to go."""
        alone = not any(not other.taken and not other.tokens for other in self._places)
        return len(place.tokens) - n_shared < max(WORTH_COPYING, n_shared) or alone

    def _cut(self, place: Place, n_shared: int, *, keep_copy: bool = True) -> Place:
        if keep_copy and len(place.tokens) - n_shared >= WORTH_COPYING:
            self._keep_copy(place)
        if not self._memory.forget(place.number, n_shared):
            self._memory.forget(place.number)
            n_shared = 0
        place.tokens = place.tokens[:n_shared]
        place.taken = True
        place.last_used = self._tick()
        return place

    def _keep_copy(self, place: Place) -> None:
        """Copy what a place holds, unless that is too little, or known from elsewhere."""
        if len(place.tokens) < WORTH_COPYING or self._is_elsewhere(place):
            return
        state = self._memory.state(place.number)
        if state.nbytes > self._copies_bytes:
            return
        within = [key for key, copy in self._copies.items() if copy.tokens == place.tokens[: len(copy.tokens)]]
        for key in within:
            self.bytes_of_copies -= self._copies.pop(key).state.nbytes
        self._copies[tuple(place.tokens)] = _Copy(place.tokens, state)
        self.bytes_of_copies += state.nbytes
        while self.bytes_of_copies > self._copies_bytes:
            self.bytes_of_copies -= self._copies.popitem(last=False)[1].state.nbytes

    def _is_elsewhere(self, place: Place) -> bool:
        others = [other.tokens for other in self._places if other is not place]
        others += [copy.tokens for copy in self._copies.values()]
        return any(tokens[: len(place.tokens)] == place.tokens for tokens in others)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def common_length(one: list[int], other: list[int]) -> int:
    """How many tokens two lists have in common from the beginning on."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    # Slices are compared in C: a search by halves is faster than a loop over a long prompt.
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
