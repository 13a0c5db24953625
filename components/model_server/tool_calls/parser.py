"""Parses tool calls out of an answer's text as it is generated."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.model_server.tool_calls.format import ID_LENGTH, CallFormat
from components.modeling.reasoning import n_overlap

_NAME = re.compile(r"\s*([A-Za-z0-9_.-]+)")


@dataclass(frozen=True)
class ParsedCall:
    """A call of a function; ``arguments`` is a JSON object as text."""

    name: str
    arguments: str

    def to_openai(self) -> dict[str, Any]:
        """OpenAI's form, with a new id."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": uuid.uuid4().hex[:ID_LENGTH], "type": "function", "function": function}


class ToolCallParser:
    """Separates calls from text in an answer that comes in deltas.

    ``n_calls`` have been parsed; ``is_truncated``: the answer has ended within the last of them.
    """

    def __init__(self, call_format: CallFormat, parameters: Mapping[str, Mapping[str, Any]]) -> None:
        """``parameters`` are the JSON schemas of the functions that may be called, by name."""
        self._format, self._parameters = call_format, parameters
        # Text that is not returned yet: it may be the beginning of a call, or be one that is not whole.
        self._held = ""
        # The held text follows a call: another call may come.
        self._after_call = False
        self.n_calls = 0
        self.is_truncated = False

    def feed(self, text: str) -> list[str | ParsedCall]:
        """The text and the calls that are certain after ``text``."""
        self._held += text
        parsed: list[str | ParsedCall] = []
        while (step := self._step()) is not None:
            parsed += step
        return parsed

    def finish(self) -> list[str | ParsedCall]:
        """What is left when the answer has ended; of a call that is cut off, the arguments as far as they came.

        What began like a call and is none is text.
        """
        head, _, between, tail = self._format.patterns
        if call := self._truncated_call((between or tail) if self._after_call else head):
            return [call]
        held, self._held = self._held, ""
        if self._after_call and between and (between.match(held) or self._may_begin_between(held)):
            held = ""  # of another call not even the name has come
        elif self._after_call:
            tail_match = tail.match(held)
            held = held[tail_match.end() :] if tail_match else held
            held = "" if _without_spaces(self._format.tail).startswith(_without_spaces(held)) else held
        elif self._format.trigger in held and self._begins_call(held):
            held = ""
        held = held.strip() if self.n_calls else held
        return [held] if held else []

    def _step(self) -> list[str | ParsedCall] | None:
        """What is certain next; None: nothing, before more text comes."""
        if self._after_call:
            call = self._next_call()
            return [call] if call else None if self._after_call else []
        begin = self._held.find(self._format.trigger)
        if begin < 0:
            return self._take_text(len(self._held) - n_overlap(self._held, self._format.trigger)) or None
        if text := self._take_text(begin):
            return text
        call = self._call(self._format.patterns[0])
        self._after_call = call is not None
        return [call] if call else None

    def _take_text(self, end: int) -> list[str | ParsedCall]:
        """The text up to ``end``; white space there is held back, for it is dropped before a call."""
        text = self._held[:end].rstrip()
        self._held = self._held[len(text) :]
        return [text] if text else []

    def _next_call(self) -> ParsedCall | None:
        """Another call after one; the calls have ended where something else follows their tail."""
        _, _, between, tail = self._format.patterns
        if between is not None:
            if (call := self._call(between)) is not None:
                return call
            if self._may_begin_between(self._held) or between.match(self._held):
                return None
        tail_match = tail.match(self._held)
        if tail_match and self._held[tail_match.end() :].strip():
            self._held, self._after_call = self._held[tail_match.end() :], False
        return None

    def _begins_call(self, held: str) -> bool:
        """Whether a text is the beginning of a call whose arguments have not begun."""
        form, held = self._format, _without_spaces(held)
        return any(_without_spaces(form.head + name + form.middle).startswith(held) for name in self._parameters)

    def _may_begin_between(self, held: str) -> bool:
        """Whether a text is the beginning of what stands between two calls."""
        return _without_spaces(self._format.between or "").startswith(_without_spaces(held))

    def _call(self, before: re.Pattern[str]) -> ParsedCall | None:
        """The call after ``before`` at the beginning of the held text, once it is whole."""
        if (named := self._name(before)) is None:
            return None
        name, begin = named
        whole = self._format.arguments.parse(self._held, begin, self._parameters[name])
        return None if whole is None else self._take(ParsedCall(name, whole[0]), whole[1])

    def _truncated_call(self, before: re.Pattern[str]) -> ParsedCall | None:
        """The call after ``before`` that the end of the answer cuts off, with the arguments that have come."""
        named = self._name(before)
        arguments = named and self._format.arguments.parse_truncated(self._held, named[1], self._parameters[named[0]])
        if named is None or arguments is None:
            return None
        self.is_truncated = True
        return self._take(ParsedCall(named[0], arguments), len(self._held))

    def _name(self, before: re.Pattern[str]) -> tuple[str, int] | None:
        """The function's name after ``before`` at the beginning of the held text, and where its arguments begin."""
        head = before.match(self._held)
        name = head and _NAME.match(self._held, head.end())
        middle = name and self._format.patterns[1].match(self._held, name.end())
        if not name or not middle or name[1] not in self._parameters:
            return None
        return name[1], middle.end()

    def _take(self, call: ParsedCall, end: int) -> ParsedCall:
        self._held = self._held[end:]
        self.n_calls += 1
        return call


def _without_spaces(text: str) -> str:
    return "".join(text.split())
