"""What a model thinks before it answers: text between ``<think>`` and ``</think>``, told apart from the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.modeling.chat_template import Edges

OPEN, CLOSE = "<think>", "</think>"
PLAIN = Edges()
_OPENED = re.compile(rf"{OPEN}\s*\Z")


def before_reasoning(prompt: str) -> str | None:
    """A prompt up to where it opens thoughts, as the generation prompt of DeepSeek-R1's distilled models does; None
    where it ends otherwise."""
    opened = _OPENED.search(prompt)
    return None if opened is None else prompt[: opened.start()]


def split_reasoning(text: str, *, opened: bool = False, edges: Edges = PLAIN) -> tuple[str | None, str]:
    """Thoughts and answer of what an assistant wrote; thoughts are None where it has none, or empty ones.

    ``opened`` says that the prompt ended within thoughts. What is never closed is all thoughts. ``edges`` is white
    space around an answer that is no part of it.
    """
    begun = text.lstrip()
    if begun.startswith(OPEN):
        begun = begun.removeprefix(OPEN)
    elif not opened:
        return None, edges.without(text)
    thoughts, _, answer = begun.partition(CLOSE)
    return thoughts.strip() or None, answer.lstrip().removesuffix(edges.tail)


@dataclass(frozen=True)
class AssistantDelta:
    """A piece of what an assistant writes: of its thoughts, or of its answer."""

    text: str
    is_reasoning: bool


class ReasoningStream:
    """``split_reasoning`` of a text that comes in pieces: what may be the beginning of a tag is held back."""

    def __init__(self, *, opened: bool = False, edges: Edges = PLAIN) -> None:
        """``opened`` and ``edges``: see ``split_reasoning``."""
        self._held, self._edges = "", edges
        self._opened = opened
        self._phase = self._begin

    def feed(self, text: str) -> list[AssistantDelta]:
        """What is certain now."""
        self._held += text
        said: list[AssistantDelta] = []
        while True:
            phase, known = self._phase, self._phase()
            if known is not None and known.text:
                said.append(known)
            if self._phase == phase:
                return said

    def rest(self) -> list[AssistantDelta]:
        """What is left when nothing follows."""
        held, self._held = self._held, ""
        thinking = self._phase == self._think or (self._opened and self._phase == self._begin)
        if thinking:
            held = held.strip()
        elif self._phase == self._begin:
            held = self._edges.without(held)
        else:
            held = held.removesuffix(self._edges.tail)
        return [AssistantDelta(held, thinking)] if held else []

    def _begin(self) -> AssistantDelta | None:
        """White space, and then the tag that opens thoughts, or not."""
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._held, self._phase = begun.removeprefix(OPEN), self._think_from_words
        elif not OPEN.startswith(begun):
            self._phase = self._think_from_words if self._opened else self._answer
            self._held = self._held.removeprefix(self._edges.lead)
        return None

    def _think_from_words(self) -> AssistantDelta | None:
        self._held = self._held.lstrip()
        if self._held:
            self._phase = self._think
        return None

    def _think(self) -> AssistantDelta | None:
        thoughts, closed, after = self._held.partition(CLOSE)
        if closed:
            self._held, self._phase = after, self._answer_from_words
            return AssistantDelta(thoughts.rstrip(), is_reasoning=True)
        # White space before the tag is not part of the thoughts.
        certain = thoughts[: len(thoughts) - n_overlap(thoughts, CLOSE)].rstrip()
        self._held = self._held[len(certain) :]
        return AssistantDelta(certain, is_reasoning=True)

    def _answer_from_words(self) -> AssistantDelta | None:
        self._held = self._held.lstrip()
        if self._held:
            self._phase = self._answer
        return None

    def _answer(self) -> AssistantDelta | None:
        certain = self._held[: len(self._held) - n_overlap(self._held, f"{self._edges.tail}.")]
        self._held = self._held[len(certain) :]
        return AssistantDelta(certain, is_reasoning=False)


def n_overlap(text: str, tag: str) -> int:
    """How many characters at the end of a text are the beginning of a tag."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:n])), 0)
