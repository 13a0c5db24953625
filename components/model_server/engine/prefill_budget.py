"""How many rows of a prompt fit between two tokens of those who are being answered.

The node itself says what a step costs; the setting is the gap that a stream may see between two tokens.
"""

from __future__ import annotations

# What a row costs depends on how many come at once, and where the borders lie differs with the processor. On one here
# 48 rows took 6.5 ms each, 64 rows 7.3 and 128 rows 6.2.
SIZES = (16, 32, 48, 64, 96, 128, 256, 512)
# From 64 rows up llama.cpp's FlashAttention on CPUs has its tiled kernel. Behind many tokens fewer rows take as long as
# 64: behind 2,500 tokens 32 rows took 0.60 s and 64 rows 0.66 s, at the beginning 0.31 and 0.58 s.
TILE = 64
FAR = 512
# A new measurement counts this much against all before it: neighbours on the node come and go.
WEIGHT = 0.3
# A larger piece is worth so much more for each of its rows.
HARDLY_MORE = 1.05
# Each further prompt that is read lets the gap grow by this share. A crowd that comes at once is read in larger pieces,
# and its answers then come in larger batches: both are cheaper.
GAP_FOR_EACH_MORE = 0.5
# Until something was measured.
FIRST_GUESS_SECONDS_PER_ROW = 0.005


class Pace:
    """Learns what rows cost here; times are in seconds."""

    def __init__(self, *, gap_seconds: float, idle_gap_seconds: float, n_rows: int) -> None:
        """``gap_seconds`` while somebody is answered, ``idle_gap_seconds`` while nobody is; ``n_rows`` at once."""
        self._gap_seconds = gap_seconds
        self._idle_gap_seconds = idle_gap_seconds
        self.sizes = [size for size in SIZES if size <= n_rows] or [n_rows]
        self._near = _Costs(self.sizes)
        self._far = _Costs([size for size in self.sizes if size >= TILE] or self.sizes[-1:])
        self._was_far = False

    def rows(self, *, answering_seconds: float | None, start: int, n_reading: int = 1) -> int:
        """Rows for the next step of a prompt of which ``start`` tokens are read.

        ``answering_seconds`` is what the step's tokens for those being answered took; None: nobody is answered. Prompts
        get at least as long as answers do, so that many streams do not starve who comes anew. ``n_reading`` prompts are
        being read: for a crowd the gap grows.
        """
        if answering_seconds is None:
            left = self._idle_gap_seconds
        else:
            gap = self._gap_seconds * (1 + GAP_FOR_EACH_MORE * (n_reading - 1))
            gap = min(gap, max(self._idle_gap_seconds, self._gap_seconds))
            left = max(gap - answering_seconds, answering_seconds)
        return (self._far if start >= FAR else self._near).best_within(left)

    def prompt_rows_took(self, n_rows: int, seconds: float, *, start: int) -> None:
        """Learn from a chunk of a prompt behind its first ``start`` tokens."""
        self._was_far = self._was_far or start >= FAR
        if start < FAR:
            self._near.learn(n_rows, seconds)
        if start >= FAR or not self._was_far:
            self._far.learn(n_rows, seconds)


class _Costs:
    """Seconds per row by the number of rows at once."""

    def __init__(self, sizes: list[int]) -> None:
        self._per_row = dict.fromkeys(sizes, FIRST_GUESS_SECONDS_PER_ROW)
        self._known: set[int] = set()

    def best_within(self, seconds: float) -> int:
        """Of sizes that take no longer the largest whose rows cost hardly more than any other's; else the smallest."""
        fitting = {size: per_row for size, per_row in self._per_row.items() if size * per_row <= seconds}
        if not fitting:
            return min(self._per_row)
        least = min(fitting.values())
        return max(size for size, per_row in fitting.items() if per_row <= HARDLY_MORE * least)

    def learn(self, n_rows: int, seconds: float) -> None:
        """Learn from a chunk; one that lies between two sizes says little about either."""
        if n_rows not in self._per_row:
            return
        per_row = seconds / n_rows
        if n_rows in self._known:
            per_row = WEIGHT * per_row + (1 - WEIGHT) * self._per_row[n_rows]
        change = per_row / self._per_row[n_rows]
        self._known.add(n_rows)
        for size in self._per_row:
            if size == n_rows or (size > n_rows and size not in self._known):
                self._per_row[size] = per_row  # of a larger one nothing is known but that it costs about as much
            elif size in self._known:
                # A neighbour slows every size, something else only some: half of the change is believed of all.
                self._per_row[size] *= change**0.5
