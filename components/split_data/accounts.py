"""What became of each record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["train", "validation", "test", "unused", "dropped"]
SPLITS: tuple[Outcome, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Account:
    """What became of one record; ``line`` counts from 1."""

    line: int
    outcome: Outcome
    reason: str = ""
    id: str = ""
