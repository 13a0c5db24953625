"""The slots of the KV cache, and what a new prompt can share with the sequences in them or in the prefix cache.

A slot keeps its sequence after the answer has ended: the next turn of the same chat, or another chat with the same
system prompt, computes only the tokens that differ. A sequence that has to leave its slot is copied into the prefix
cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.model_server.engine.prefix_cache import PrefixCache, common_prefix_length

# To copy a state takes milliseconds, as long as a CPU needs for a token: fewer tokens than this are computed as fast.
MIN_COPIED_TOKENS = 4


class KvCache(Protocol):
    """What the slots need of llama.cpp's context; see ``Context``."""

    n_parallel: int

    def seq_rm(self, seq_id: int, p0: int = 0) -> bool:
        """Remove a sequence's tokens from position ``p0`` on; False: it can only remove all of them."""

    def state_seq_get(self, seq_id: int) -> NDArray[np.uint8]:
        """A copy of what the KV cache holds of a sequence, (bytes,)."""

    def state_seq_set(self, seq_id: int, state: NDArray[np.uint8]) -> bool:
        """Put a copy of any sequence's state into ``seq_id``."""


@dataclass
class Slot:
    """One sequence of the KV cache. ``tokens``: those whose keys and values it holds, by position.

    ``last_used`` is a counter of ``Slots``: the free slot with the smallest one is overwritten first.
    """

    seq_id: int
    tokens: list[int] = field(default_factory=list)
    in_use: bool = False
    last_used: int = 0


class Slots:
    """All slots of a context; ``prefix_cache`` holds what had to leave them."""

    def __init__(self, kv_cache: KvCache, prefix_cache: PrefixCache) -> None:
        self._kv_cache = kv_cache
        self._prefix_cache = prefix_cache
        self._slots = [Slot(seq_id) for seq_id in range(kv_cache.n_parallel)]
        self._clock = 0

    @property
    def n_free(self) -> int:
        """Slots that no running sequence has."""
        return sum(not slot.in_use for slot in self._slots)

    def n_cached(self, prompt: Sequence[int]) -> int:
        """How many of the prompt's first tokens are in a slot or in the prefix cache."""
        shareable = list(prompt[:-1])
        in_slots = max(common_prefix_length(slot.tokens, shareable) for slot in self._slots)
        return max(in_slots, self._prefix_cache.longest_match(shareable)[1])

    def acquire(self, prompt: Sequence[int]) -> Slot:
        """A free slot that holds the longest beginning of the prompt that is cached anywhere, and nothing else.

        The last token is never shared: its logits have to be computed. There must be a free slot.
        """
        shareable = list(prompt[:-1])
        free = [slot for slot in self._slots if not slot.in_use]
        own = max(free, key=lambda slot: (common_prefix_length(slot.tokens, shareable), -slot.last_used))
        n_own = common_prefix_length(own.tokens, shareable)
        # Of two that share as many tokens the shorter one is copied faster.
        other = max(self._slots, key=lambda slot: (common_prefix_length(slot.tokens, shareable), -len(slot.tokens)))
        n_other = common_prefix_length(other.tokens, shareable)
        cached, n_cached = self._prefix_cache.longest_match(shareable)
        n_shared = max(n_own, n_other, n_cached)
        if n_own >= n_shared - MIN_COPIED_TOKENS and self._may_truncate(own, n_own):
            return self._truncate(own, n_own)
        target = min(free, key=lambda slot: (slot.tokens != [], slot.last_used))
        if n_shared < MIN_COPIED_TOKENS:
            return self._truncate(target, 0)
        # The state is read before the target is emptied: it may be the target's own.
        if cached is not None and n_cached > n_other:
            self._prefix_cache.touch(cached)
            tokens, state = list(cached.tokens), cached.state
        else:
            other.last_used = self._tick()
            tokens, state = list(other.tokens), self._kv_cache.state_seq_get(other.seq_id)
        self._save(target)
        target.tokens = []
        if not self._kv_cache.state_seq_set(target.seq_id, state):
            return self._truncate(target, 0)
        target.tokens = tokens
        return self._truncate(target, n_shared, save=False)

    def release(self, slot: Slot) -> None:
        """End the use of a slot; its tokens stay until the slot is needed."""
        slot.in_use = False
        slot.last_used = self._tick()

    def drop_uncommitted(self, slot: Slot) -> None:
        """Remove what an aborted computation has left in the KV cache behind the slot's ``tokens``."""
        if not self._kv_cache.seq_rm(slot.seq_id, len(slot.tokens)):
            self.clear(slot)

    def clear(self, slot: Slot) -> None:
        """Empty a slot whose KV cache may differ from its ``tokens``."""
        self._kv_cache.seq_rm(slot.seq_id)
        slot.tokens = []

    def _may_truncate(self, slot: Slot, n_shared: int) -> bool:
        """Whether a slot may lose the tokens behind the shared ones: they are few, or no slot is empty."""
        has_empty_slot = any(not other.in_use and not other.tokens for other in self._slots)
        return len(slot.tokens) - n_shared < max(MIN_COPIED_TOKENS, n_shared) or not has_empty_slot

    def _truncate(self, slot: Slot, n_shared: int, *, save: bool = True) -> Slot:
        """Mark a slot as used, with its first ``n_shared`` tokens; ``save`` copies what it had before."""
        if save and len(slot.tokens) - n_shared >= MIN_COPIED_TOKENS:
            self._save(slot)
        if not self._kv_cache.seq_rm(slot.seq_id, n_shared):
            self._kv_cache.seq_rm(slot.seq_id)
            n_shared = 0
        slot.tokens = slot.tokens[:n_shared]
        slot.in_use = True
        slot.last_used = self._tick()
        return slot

    def _save(self, slot: Slot) -> None:
        """Copy a slot into the prefix cache, unless it is too short, or another slot or copy begins with its tokens."""
        others = [other.tokens for other in self._slots if other is not slot]
        if (
            len(slot.tokens) >= MIN_COPIED_TOKENS
            and not self._prefix_cache.covers(slot.tokens)
            and not any(tokens[: len(slot.tokens)] == slot.tokens for tokens in others)
        ):
            self._prefix_cache.add(slot.tokens, self._kv_cache.state_seq_get(slot.seq_id))

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
