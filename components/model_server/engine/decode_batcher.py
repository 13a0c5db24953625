"""Into how many batches the decode tokens of a step are best split.

One batch of all is not always the fastest: on one processor here, 16 tokens took 250 ms, 8 tokens 206, and twice 4
tokens 170. Which sizes llama.cpp's kernels favour differs with the processor, so they are measured on the node.
"""

from __future__ import annotations

from functools import cache

# A new measurement counts this much against all before it.
WEIGHT = 0.1
# Several batches must take less than this share of one batch's time, so that noise does not split.
WORTH_SPLITTING = 0.92


class DecodeBatcher:
    """Learns how many seconds a batch takes by its number of tokens, one of each sequence."""

    def __init__(self) -> None:
        # n_tokens of a batch -> seconds, an exponential moving average.
        self._seconds: dict[int, float] = {}

    def learn(self, n_tokens: int, seconds: float) -> None:
        """Learn from a batch."""
        known = self._seconds.get(n_tokens)
        self._seconds[n_tokens] = seconds if known is None else WEIGHT * seconds + (1 - WEIGHT) * known

    def sizes(self, n_tokens: int) -> list[int]:
        """Tokens of each batch, in all ``n_tokens``; one batch where no other split is known to be faster."""
        whole = self._expected(n_tokens)
        if whole is None:
            return [n_tokens]

        @cache
        def best(n: int) -> tuple[float, tuple[int, ...]]:
            if n == 0:
                return 0.0, ()
            ways = [(best(n - size)[0] + seconds, size) for size, seconds in self._seconds.items() if size <= n]
            if not ways:
                return float("inf"), ()
            seconds, size = min(ways)
            return seconds, (size, *best(n - size)[1])

        seconds, sizes = best(n_tokens)
        return list(sizes) if seconds < WORTH_SPLITTING * whole else [n_tokens]

    def _expected(self, n_tokens: int) -> float | None:
        """Seconds of one batch of ``n_tokens``: as measured, or interpolated between its measured neighbours."""
        if n_tokens in self._seconds:
            return self._seconds[n_tokens]
        below = max((size for size in self._seconds if size < n_tokens), default=None)
        above = min((size for size in self._seconds if size > n_tokens), default=None)
        if below is None or above is None:
            return None
        share = (n_tokens - below) / (above - below)
        return (1 - share) * self._seconds[below] + share * self._seconds[above]
