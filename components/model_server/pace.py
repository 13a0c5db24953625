"""How many rows of a prompt fit between two tokens of those who are being answered.

The node itself says what a step costs; the setting is the gap that a stream may see between two tokens.
"""

from __future__ import annotations

# What a row costs depends on how many come at once: llama.cpp's kernels take other paths from 32 or 64 rows up, and
# where the border lies differs with the processor and the length of the context.
SIZES = (16, 32, 64, 128, 256, 512)
# A new measurement counts this much against all before it: neighbours on the node come and go.
WEIGHT = 0.3
# A size is not worth its shorter gap when its rows cost so much more than the cheapest size's.
DEAR = 1.4
# Until something was measured.
FIRST_GUESS_SECONDS_PER_ROW = 0.005


class Pace:
    """Learns what rows cost here; times are in seconds."""

    def __init__(self, *, gap_seconds: float, idle_gap_seconds: float, n_rows: int) -> None:
        """``gap_seconds`` while somebody is answered, ``idle_gap_seconds`` while nobody is; ``n_rows`` at once."""
        self._gap_seconds = gap_seconds
        self._idle_gap_seconds = idle_gap_seconds
        self._sizes = [size for size in SIZES if size <= n_rows] or [n_rows]
        self._per_row = dict.fromkeys(self._sizes, FIRST_GUESS_SECONDS_PER_ROW)
        self._measured: set[int] = set()

    @property
    def sizes(self) -> list[int]:
        """The numbers of rows that are told apart."""
        return list(self._sizes)

    def rows(self, *, answering_seconds: float | None) -> int:
        """Rows of prompts for the next step.

        ``answering_seconds`` is what the step's tokens for those being answered took; None: nobody is answered. Prompts
        get at least as long as answers do, so that many streams do not starve who comes anew.
        """
        if answering_seconds is None:
            left = self._idle_gap_seconds
        else:
            left = max(self._gap_seconds - answering_seconds, answering_seconds)
        fitting = [size for size in self._sizes if self._seconds(size) <= left]
        size = max(fitting, default=min(self._sizes, key=self._seconds))
        bearable = DEAR * min(self._per_row.values())
        return min(
            other
            for other in self._sizes
            if (other >= size and self._per_row[other] <= bearable) or other == self._sizes[-1]
        )

    def prompt_rows_took(self, n_rows: int, seconds: float) -> None:
        """Learn from a chunk of a prompt; one that lies between two sizes says little about either."""
        if n_rows not in self._per_row:
            return
        per_row = seconds / n_rows
        if n_rows in self._measured:
            per_row = WEIGHT * per_row + (1 - WEIGHT) * self._per_row[n_rows]
        change = per_row / self._per_row[n_rows]
        self._measured.add(n_rows)
        self._per_row[n_rows] = per_row
        for size in self._sizes:
            if size > n_rows and size not in self._measured:
                self._per_row[size] = per_row  # nothing is known yet but that they cost about as much
            elif size != n_rows and size in self._measured:
                # A neighbour slows every size, a longer context only some: half of the change is believed of all.
                self._per_row[size] *= change**0.5

    def _seconds(self, size: int) -> float:
        return size * self._per_row[size]
