"""What a model thinks before it answers: text between ``<think>`` and ``</think>``, told apart from the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPEN, CLOSE = "<think>", "</think>"
_OPENED = re.compile(rf"{OPEN}\s*\Z")


def before_reasoning(prompt: str) -> str | None:
    """A prompt up to where it opens thoughts, as the generation prompt of DeepSeek-R1's distilled models does; None
    where it ends otherwise."""
    opened = _OPENED.search(prompt)
    return None if opened is None else prompt[: opened.start()]


def split_reasoning(text: str, *, opened: bool = False, lead: str = "") -> tuple[str | None, str]:
    """Thoughts and answer of what an assistant wrote; thoughts are None where it has none, or empty ones.

    ``opened`` says that the prompt ended within thoughts. What is never closed is all thoughts. ``lead`` is white space
    of the template before an answer.
    """
    begun = text.lstrip()
    if begun.startswith(OPEN):
        begun = begun.removeprefix(OPEN)
    elif not opened:
        return None, text.removeprefix(lead)
    thoughts, _, answer = begun.partition(CLOSE)
    return thoughts.strip() or None, answer.lstrip()


@dataclass(frozen=True)
class Said:
    """A piece of what an assistant writes: of its thoughts, or of its answer."""

    text: str
    is_reasoning: bool


class ReasoningStream:
    """``split_reasoning`` of a text that comes in pieces: what may be the beginning of a tag is held back."""

    def __init__(self, *, opened: bool = False, lead: str = "") -> None:
        """``opened`` says that the prompt ended within thoughts; ``lead`` is white space of the template."""
        self._held, self._lead = "", lead
        self._opened = opened
        self._phase = self._begin

    def feed(self, text: str) -> list[Said]:
        """What is certain now."""
        self._held += text
        said: list[Said] = []
        while True:
            phase, known = self._phase, self._phase()
            if known is not None and known.text:
                said.append(known)
            if self._phase == phase:
                return said

    def rest(self) -> list[Said]:
        """What is left when nothing follows."""
        held, self._held = self._held, ""
        thinking = self._phase == self._think
        if thinking:
            held = held.rstrip()
        elif self._phase == self._begin:
            held = held.removeprefix(self._lead)
        return [Said(held, thinking)] if held else []

    def _begin(self) -> Said | None:
        """White space, and then the tag that opens thoughts, or not."""
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._held, self._phase = begun.removeprefix(OPEN), self._think_from_words
        elif not OPEN.startswith(begun):
            self._phase = self._think_from_words if self._opened else self._answer
            self._held = self._held.removeprefix(self._lead)
        return None

    def _think_from_words(self) -> Said | None:
        self._held = self._held.lstrip()
        if self._held:
            self._phase = self._think
        return None

    def _think(self) -> Said | None:
        thoughts, closed, after = self._held.partition(CLOSE)
        if closed:
            self._held, self._phase = after, self._answer_from_words
            return Said(thoughts.rstrip(), is_reasoning=True)
        # White space before the tag is not part of the thoughts.
        certain = thoughts[: len(thoughts) - _n_overlap(thoughts, CLOSE)].rstrip()
        self._held = self._held[len(certain) :]
        return Said(certain, is_reasoning=True)

    def _answer_from_words(self) -> Said | None:
        self._held = self._held.lstrip()
        if self._held:
            self._phase = self._answer
        return None

    def _answer(self) -> Said | None:
        held, self._held = self._held, ""
        return Said(held, is_reasoning=False)


def _n_overlap(text: str, tag: str) -> int:
    """How many characters at the end of a text are the beginning of a tag."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:n])), 0)
