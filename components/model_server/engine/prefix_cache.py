"""A bounded cache of sequences that left their slot, found again by the tokens that they begin with."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CachedPrefix:
    """A copied sequence: its tokens, and their keys and values as llama.cpp serializes them, (bytes,)."""

    tokens: list[int]
    state: NDArray[np.uint8]


class PrefixCache:
    """Holds at most ``max_bytes`` of copies, ``n_bytes`` now; the least recently used is evicted first.

    Copies are whole sequences and not blocks of tokens: llama.cpp copies the state of a sequence only as a whole. A
    server holds few of them (some MB each), so a search compares the tokens of all.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        # By their tokens, the least recently used first.
        self._entries: OrderedDict[tuple[int, ...], CachedPrefix] = OrderedDict()

    def longest_match(self, tokens: list[int]) -> tuple[CachedPrefix | None, int]:
        """The copy that shares most tokens with the beginning of ``tokens``, and how many; of equals the shortest."""
        entry = max(
            self._entries.values(),
            key=lambda entry: (common_prefix_length(entry.tokens, tokens), -len(entry.tokens)),
            default=None,
        )
        return entry, common_prefix_length(entry.tokens, tokens) if entry else 0

    def covers(self, tokens: list[int]) -> bool:
        """Whether a copy begins with ``tokens``."""
        return any(entry.tokens[: len(tokens)] == tokens for entry in self._entries.values())

    def touch(self, entry: CachedPrefix) -> None:
        """Note that a copy was used just now."""
        self._entries.move_to_end(tuple(entry.tokens))

    def add(self, tokens: list[int], state: NDArray[np.uint8]) -> None:
        """Keep a copy in place of those that are a beginning of it, unless it alone is larger than the cache."""
        if state.nbytes > self.max_bytes:
            return
        for key in [key for key, entry in self._entries.items() if entry.tokens == tokens[: len(entry.tokens)]]:
            self.n_bytes -= self._entries.pop(key).state.nbytes
        self._entries[tuple(tokens)] = CachedPrefix(tokens, state)
        self.n_bytes += state.nbytes
        while self.n_bytes > self.max_bytes:
            self.n_bytes -= self._entries.popitem(last=False)[1].state.nbytes


def common_prefix_length(one: list[int], other: list[int]) -> int:
    """How many tokens two lists have in common from the beginning on."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    # Slices are compared in C: a binary search is faster than a loop over a long prompt.
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
