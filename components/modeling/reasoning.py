"""The reasoning of a model, between ``<think>`` and ``</think>``, split from its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.modeling.chat_template import Edges

OPEN, CLOSE = "<think>", "</think>"
PLAIN = Edges()
_OPENED = re.compile(rf"{OPEN}\s*\Z")


def before_reasoning(prompt: str) -> str | None:
    """The part of a prompt before the tag that opens reasoning at its end; None where it has no such end.

    The generation prompt of DeepSeek-R1's distilled models ends so.
    """
    opened = _OPENED.search(prompt)
    return None if opened is None else prompt[: opened.start()]


def split_reasoning(text: str, *, opened: bool = False, edges: Edges = PLAIN) -> tuple[str | None, str]:
    """The reasoning and the answer in an assistant's text; reasoning is None where there is none or it is empty.

    ``opened``: the prompt ended with the opening tag. A text without a closing tag is all reasoning. ``edges`` is white
    space around an answer that is not part of it.
    """
    begun = text.lstrip()
    if begun.startswith(OPEN):
        begun = begun.removeprefix(OPEN)
    elif not opened:
        return None, edges.without(text)
    reasoning, _, answer = begun.partition(CLOSE)
    return reasoning.strip() or None, answer.lstrip().removesuffix(edges.tail)


@dataclass(frozen=True)
class AssistantDelta:
    """A delta of an assistant's text: of its reasoning or of its answer."""

    text: str
    is_reasoning: bool


class ReasoningStream:
    """``split_reasoning`` of a streamed text. Text that may be the beginning of a tag is held until more comes."""

    def __init__(self, *, opened: bool = False, edges: Edges = PLAIN) -> None:
        """``opened`` and ``edges``: see ``split_reasoning``."""
        self._held, self._edges = "", edges
        self._opened = opened
        self._phase = self._begin

    def feed(self, text: str) -> list[AssistantDelta]:
        """Add a delta of the whole text; return the deltas that are certain now."""
        self._held += text
        deltas: list[AssistantDelta] = []
        while True:
            phase, delta = self._phase, self._phase()
            if delta is not None and delta.text:
                deltas.append(delta)
            if self._phase == phase:
                return deltas

    def rest(self) -> list[AssistantDelta]:
        """The held text, when no more follows."""
        held, self._held = self._held, ""
        is_reasoning = self._phase == self._reason or (self._opened and self._phase == self._begin)
        if self._phase == self._reason:
            held = held.rstrip()  # white space at its beginning stands between two words
        elif is_reasoning:
            held = held.strip()
        elif self._phase == self._begin:
            held = self._edges.without(held)
        else:
            held = held.removesuffix(self._edges.tail)
        return [AssistantDelta(held, is_reasoning)] if held else []

    def _begin(self) -> AssistantDelta | None:
        """White space, then the opening tag or not."""
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._held, self._phase = begun.removeprefix(OPEN), self._begin_reasoning
        elif not OPEN.startswith(begun):
            self._phase = self._begin_reasoning if self._opened else self._answer
            self._held = self._held.removeprefix(self._edges.lead)
        return None

    def _begin_reasoning(self) -> AssistantDelta | None:
        """White space before the first word of the reasoning."""
        self._held = self._held.lstrip()
        if self._held:
            self._phase = self._reason
        return None

    def _reason(self) -> AssistantDelta | None:
        reasoning, closed, after = self._held.partition(CLOSE)
        if closed:
            self._held, self._phase = after, self._begin_answer
            return AssistantDelta(reasoning.rstrip(), is_reasoning=True)
        # White space before the tag is not part of the reasoning.
        certain = reasoning[: len(reasoning) - n_overlap(reasoning, CLOSE)].rstrip()
        self._held = self._held[len(certain) :]
        return AssistantDelta(certain, is_reasoning=True)

    def _begin_answer(self) -> AssistantDelta | None:
        """White space before the first word of the answer."""
        self._held = self._held.lstrip()
        if self._held:
            self._phase = self._answer
        return None

    def _answer(self) -> AssistantDelta | None:
        certain = self._held[: len(self._held) - n_overlap(self._held, f"{self._edges.tail}.")]
        self._held = self._held[len(certain) :]
        return AssistantDelta(certain, is_reasoning=False)


def n_overlap(text: str, tag: str) -> int:
    """The number of characters at the end of a text that are the beginning of a tag, but not all of it."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if text.endswith(tag[:n])), 0)
