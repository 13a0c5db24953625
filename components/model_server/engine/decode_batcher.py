"""Into how many batches the tokens of a step are best cut.

One batch of all is not always the fastest: on one processor here, 16 rows took 250 ms, 8 rows 206, and twice 4 rows
170. Which sizes llama.cpp's kernels like differs with the processor, so the node is asked.
"""

from __future__ import annotations

from functools import cache

# A new measurement counts this much against all before it.
WEIGHT = 0.1
# How much faster several batches must be than one, so that noise does not cut.
WORTH_CUTTING = 0.92


class Batches:
    """Learns how many seconds a batch of so many rows takes."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def took(self, n_rows: int, seconds: float) -> None:
        """Learn from a batch."""
        known = self._seconds.get(n_rows)
        self._seconds[n_rows] = seconds if known is None else WEIGHT * seconds + (1 - WEIGHT) * known

    def sizes(self, n_rows: int) -> list[int]:
        """Rows of each batch, in all ``n_rows``; one batch where no other way is known to be faster."""
        whole = self._expected(n_rows)
        if whole is None:
            return [n_rows]

        @cache
        def best(n: int) -> tuple[float, tuple[int, ...]]:
            if n == 0:
                return 0.0, ()
            ways = [(best(n - size)[0] + seconds, size) for size, seconds in self._seconds.items() if size <= n]
            if not ways:
                return float("inf"), ()
            seconds, size = min(ways)
            return seconds, (size, *best(n - size)[1])

        seconds, sizes = best(n_rows)
        return list(sizes) if seconds < WORTH_CUTTING * whole else [n_rows]

    def _expected(self, n_rows: int) -> float | None:
        """What one batch of so many rows should take: as measured, or between the neighbours that were."""
        if n_rows in self._seconds:
            return self._seconds[n_rows]
        below = max((size for size in self._seconds if size < n_rows), default=None)
        above = min((size for size in self._seconds if size > n_rows), default=None)
        if below is None or above is None:
            return None
        share = (n_rows - below) / (above - below)
        return (1 - share) * self._seconds[below] + share * self._seconds[above]
