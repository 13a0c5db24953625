"""A figure with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """A figure and the bounds between which it is expected."""

    low: float
    value: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.value + other.value, self.high + other.high)

    def times(self, factor: float) -> Range:
        """The range in another unit, or of several of the same."""
        return Range(self.low * factor, self.value * factor, self.high * factor)


NOTHING = Range(0.0, 0.0, 0.0)


def around(value: float, spread: float) -> Range:
    """A range from ``value / (1 + spread)`` to ``value * (1 + spread)``."""
    return Range(value / (1 + spread), value, value * (1 + spread))


def total(ranges: Iterable[Range]) -> Range:
    """The sum of several figures."""
    return sum(ranges, NOTHING)


def largest(ranges: Iterable[Range]) -> Range:
    """The one with the largest value."""
    return max(ranges, key=lambda one: one.value, default=NOTHING)
