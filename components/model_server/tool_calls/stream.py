"""Calls of tools in what a model says, told from its text as they come."""

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
class Call:
    """A call of a function; ``arguments`` is a JSON object as text."""

    name: str
    arguments: str

    def as_wire(self) -> dict[str, Any]:
        """OpenAI's form, with an id of its own."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": uuid.uuid4().hex[:ID_LENGTH], "type": "function", "function": function}


class CallStream:
    """Tells calls from text in an answer that comes in pieces; ``n_calls`` have come, the last of which ``was_cut``."""

    def __init__(self, call_format: CallFormat, parameters: Mapping[str, Mapping[str, Any]]) -> None:
        """``parameters`` are the JSON schemas of the functions that may be called, by name."""
        self._format, self._parameters = call_format, parameters
        self._held = ""
        # Behind a call: another may follow.
        self._in_calls = False
        self.n_calls = 0
        self.was_cut = False

    def feed(self, text: str) -> list[str | Call]:
        """What is certain now."""
        self._held += text
        found: list[str | Call] = []
        while (step := self._step()) is not None:
            found += step
        return found

    def rest(self) -> list[str | Call]:
        """What is left when nothing follows; of a call that was cut its arguments as far as they came.

        What began like a call, and is none, is text.
        """
        head, _, between, tail = self._format.patterns
        if call := self._cut_call((between or tail) if self._in_calls else head):
            return [call]
        held, self._held = self._held, ""
        if self._in_calls and between and (between.match(held) or self._may_go_on(held)):
            held = ""  # of another call not even the name has come
        elif self._in_calls:
            ended = tail.match(held)
            held = held[ended.end() :] if ended else held
            held = "" if _squeezed(self._format.tail).startswith(_squeezed(held)) else held
        elif self._format.trigger in held and self._began_a_call(held):
            held = ""
        held = held.strip() if self.n_calls else held
        return [held] if held else []

    def _step(self) -> list[str | Call] | None:
        """What is certain next; None: nothing, before more comes."""
        if self._in_calls:
            call = self._next_call()
            return [call] if call else None if self._in_calls else []
        begin = self._held.find(self._format.trigger)
        if begin < 0:
            return self._text(len(self._held) - n_overlap(self._held, self._format.trigger)) or None
        if text := self._text(begin):
            return text
        call = self._call(self._format.patterns[0])
        self._in_calls = call is not None
        return [call] if call else None

    def _text(self, end: int) -> list[str | Call]:
        """The text up to ``end``; white space there is held back, for none belongs before a call."""
        text = self._held[:end].rstrip()
        self._held = self._held[len(text) :]
        return [text] if text else []

    def _next_call(self) -> Call | None:
        """Another call behind one; the calls have ended where something else follows their tail."""
        _, _, between, tail = self._format.patterns
        if between is not None:
            if (call := self._call(between)) is not None:
                return call
            if self._may_go_on(self._held) or between.match(self._held):
                return None
        ended = tail.match(self._held)
        if ended and self._held[ended.end() :].strip():
            self._held, self._in_calls = self._held[ended.end() :], False
        return None

    def _began_a_call(self, held: str) -> bool:
        """Whether a text is the beginning of a call whose arguments have not come."""
        form, held = self._format, _squeezed(held)
        return any(_squeezed(form.head + name + form.middle).startswith(held) for name in self._parameters)

    def _may_go_on(self, held: str) -> bool:
        """Whether a text is the beginning of what stands between two calls."""
        return _squeezed(self._format.between or "").startswith(_squeezed(held))

    def _call(self, before: re.Pattern[str]) -> Call | None:
        """The call behind ``before`` at the beginning of what is held, once it is whole."""
        if (known := self._name(before)) is None:
            return None
        name, begin = known
        read = self._format.arguments.read(self._held, begin, self._parameters[name])
        return None if read is None else self._taken(Call(name, read[0]), read[1])

    def _cut_call(self, before: re.Pattern[str]) -> Call | None:
        """The call behind ``before``, of which all that has come is taken."""
        known = self._name(before)
        come = known and self._format.arguments.begun(self._held, known[1], self._parameters[known[0]])
        if known is None or come is None:
            return None
        self.was_cut = True
        return self._taken(Call(known[0], come), len(self._held))

    def _name(self, before: re.Pattern[str]) -> tuple[str, int] | None:
        """The function's name behind ``before`` at the beginning of what is held, and where its arguments begin."""
        began = before.match(self._held)
        named = began and _NAME.match(self._held, began.end())
        middle = named and self._format.patterns[1].match(self._held, named.end())
        if not named or not middle or named[1] not in self._parameters:
            return None
        return named[1], middle.end()

    def _taken(self, call: Call, end: int) -> Call:
        self._held = self._held[end:]
        self.n_calls += 1
        return call


def _squeezed(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())
