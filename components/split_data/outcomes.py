"""The outcome of each record: the split that it went to, or why it is in none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.artifacts.contracts import Message

Outcome = Literal["train", "validation", "test", "unused", "dropped"]
SPLITS: tuple[Outcome, ...] = ("train", "validation", "test")
OUTCOMES: tuple[Outcome, ...] = (*SPLITS, "unused", "dropped")


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The outcome of one record; ``line`` counts from 1.

    ``kind`` is the reason in a word or two; ``group`` is the file and line of the first of the row's near-duplicates.
    """

    file: str
    line: int
    outcome: Outcome
    kind: str = ""
    reason: str = ""
    id: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that is not used, and the beginning of its text."""

    line: int
    kind: str
    reason: str
    excerpt: str = ""


def shorten(text: str, length: int = 160) -> str:
    """The beginning of a text, on one line; lone surrogates, which no file can hold, become question marks."""
    line = " ".join(text[: 3 * length].encode("utf-8", "replace").decode().split())
    return line if len(line) <= length else line[: length - 1] + "…"


def excerpt_of(messages: Sequence[Message]) -> str:
    """The beginning of a conversation's last question, and of its answer."""
    return f"{shorten(messages[-2].content, 120)} → {shorten(messages[-1].content)}"
