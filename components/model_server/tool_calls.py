"""Calls of tools, as a model's own chat template writes them.

How a template writes a call is learnt from the template: it renders a conversation with calls of names that no tool
has, and what stands around names and arguments is how this model calls. Names come before arguments; a template that
does otherwise, or whose arguments are in a form that is not known here, takes no tools.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from components.contracts import Message
from components.errors import ModelError
from components.model_server.call_arguments import ARGUMENTS, Arguments, ElementArguments, JsonArguments
from components.model_server.json_schema import as_followed
from components.reasoning import CLOSE, n_overlap

if TYPE_CHECKING:
    from components.gguf_vocabulary import GgufVocabulary
    from components.model_server.engine import ToolUse

NAMES = ("lorryprobe_one", "lorryprobe_two")
# Nine letters and digits: Mistral's templates take no other ids.
IDS = ("lorryid01", "lorryid02")
ID_LENGTH = len(IDS[0])
# Stands for a call's id in what a template writes around calls.
ID = "\0"
MAX_CALLS = 16
_NAME = re.compile(r"\s*([A-Za-z0-9_.-]+)")
_USER = Message(role="user", content="Hi")
# What begins a call, where it is no text of JSON: a tag, or a word in brackets.
_TAG = re.compile(r"(?:<[^\s<>]+>|\[[A-Z_]+\])")


@dataclass(frozen=True)
class Call:
    """A call of a function; ``arguments`` is a JSON object as text."""

    name: str
    arguments: str

    def as_wire(self) -> dict[str, Any]:
        """OpenAI's form, with an id of its own."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": uuid.uuid4().hex[:ID_LENGTH], "type": "function", "function": function}


@dataclass(frozen=True)
class CallFormat:
    """What a template writes around calls: head NAME middle ARGUMENTS (between NAME middle ARGUMENTS)* tail.

    ``between`` is None where the template takes one call at a time. ``specials`` are the special tokens in all of them.
    """

    head: str
    middle: str
    arguments: Arguments
    between: str | None
    tail: str
    specials: Mapping[int, str]

    @classmethod
    def of(cls, model: GgufVocabulary) -> CallFormat | None:
        """How the model's template writes calls; None where it has no place for tools, or does otherwise."""
        if not takes_tools(model):
            return None
        one, two = (_said(model, n) for n in (1, 2))
        first = None if one is None else _cut(one)
        if one is None or first is None:
            return None
        head, middle, arguments, tail = first
        between = None
        both = None if two is None else _cut(two)
        if both is not None:
            second = _cut(both[3])
            between = None if second is None or second[1] != middle else second[0]
        # Thoughts before a call are no part of it.
        head = head.rpartition(CLOSE)[2].lstrip()
        segments = [head, middle, between or "", tail]
        if isinstance(arguments, ElementArguments):
            segments += [arguments.open, arguments.middle, arguments.close]
        if not head.strip() or any(name in segment for name in NAMES for segment in segments):
            return None
        specials = {
            token: spelled
            for segment in segments
            for token in model.tokenize(segment.replace(ID, ""), special=True)
            if not model.piece(token) and (spelled := model.spelled(token)) in segment
        }
        tail = _without_end(tail, model)
        return cls(head, middle, arguments, between, tail, specials)

    @property
    def trigger(self) -> str:
        """What shows that a call begins."""
        tag = _TAG.match(self.head)
        return tag.group() if tag else self.head.rstrip()

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str] | None, re.Pattern[str]]:
        """Of head, middle, between and tail, with any white space: a model does not always keep to its template."""
        head, middle, tail = (_pattern(text) for text in (self.head, self.middle, self.tail))
        return head, middle, None if self.between is None else _pattern(self.between), tail


def takes_tools(model: GgufVocabulary) -> bool:
    """Whether the template has a place for tools."""
    try:
        return NAMES[0] in model.prompt([_USER], tools=_TOOLS)
    except ModelError:
        return False


_TOOLS = [
    {"type": "function", "function": {
        "name": name, "description": "Probe",
        "parameters": {
            "type": "object", "properties": {key: {"type": "string", "description": "Probe"} for key in ARGUMENTS}
        },
    }} for name in NAMES
]  # fmt: skip


def _said(model: GgufVocabulary, n_calls: int) -> str | None:
    """What an assistant says who makes so many calls; None where the template refuses."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": ARGUMENTS}}
        for name, call_id in list(zip(NAMES, IDS, strict=True))[:n_calls]
    ]
    called = Message(role="assistant", content="", tool_calls=calls)
    try:
        prompt = model.prompt([_USER], tools=_TOOLS)
        through = model.prompt([_USER, called], tools=_TOOLS, add_generation_prompt=False)
    except ModelError:
        return None
    n_same = next((n for n, (one, other) in enumerate(zip(prompt, through, strict=False)) if one != other), len(prompt))
    # Two tags can begin alike: what is the same ends with a tag or with white space.
    if n_same < len(prompt):
        n_same = max(prompt.rfind(end, 0, n_same) + 1 for end in "> ]\n")
    said = through[n_same:]
    for call_id in IDS:
        said = said.replace(call_id, ID)
    return said


def _cut(said: str) -> tuple[str, str, Arguments, str] | None:
    """What stands before the first name, between it and its arguments, how those are written, and what follows."""
    places = [(place, name) for name in NAMES if (place := said.find(name)) >= 0]
    if not places:
        return None
    place, name = min(places)
    behind = said[place + len(name) :]
    for begin in (match.start() for match in re.finditer(r"\{", behind)):
        try:
            arguments, end = json.JSONDecoder().raw_decode(behind, begin)
        except ValueError:
            continue
        if arguments == ARGUMENTS:
            return said[:place], behind[:begin], JsonArguments(), behind[end:]
    elements = ElementArguments.cut(behind)
    return None if elements is None else (said[:place], *elements)


def _without_end(tail: str, model: GgufVocabulary) -> str:
    """The tail up to what ends an answer."""
    for token in model.tokenize(tail.replace(ID, ""), special=True):
        if model.is_end(token):
            return tail.partition(model.spelled(token))[0]
    return tail


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.findall(rf"\w+|{ID}|[^\w\s]", text)
    return re.compile(r"\s*" + r"\s*".join(r"\w+" if part == ID else re.escape(part) for part in parts))


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


def grammar_of(use: ToolUse, json_schema: str | None, is_special: Callable[[int], bool]) -> str:
    """A Lark grammar of llguidance's: what an answer may say that uses tools.

    Where it need not call, any text may come before a call, or, with ``json_schema``, JSON in the place of it.
    ``is_special`` tells the tokens that no text matches.

    Raises:
        SchemaError: the parameters of a tool cannot be followed.
    """
    form = use.call_format

    def literal(text: str) -> str:
        return _literal(text, {token: name for token, name in form.specials.items() if is_special(token)})

    lines = ["%llguidance {}"]
    calls = []
    for number, name in enumerate(use.callable_names):
        calls.append(f"call_{number}")
        arguments = f"arguments_{number}"
        lines.append(f"{calls[-1]}: {literal(name + form.middle)} {arguments}")
        lines.append(form.arguments.rule(arguments, use.parameters[name], f"tools: parameters of {name}", literal))
    lines.append(f"call: {' | '.join(calls)}")
    more = f"({literal(form.between)} call){{0,{MAX_CALLS - 1}}}" if use.several and form.between is not None else ""
    lines.append(f"calls: call {more} {literal(form.tail)}")
    if use.must_call:
        return "\n".join([*lines, f"start: {literal(form.head)} calls"])
    if json_schema is not None:
        schema = as_followed(json_schema)
        return "\n".join([*lines, f"start: {literal(form.head)} calls | answer", f"answer: %json {schema}"])
    rest = literal(form.head.removeprefix(form.trigger))
    trigger = literal(form.trigger)
    if trigger.startswith('"'):
        lines.append(f"trigger[lazy]: TEXT {trigger}")
        trigger = "trigger"
    else:
        trigger = f"TEXT {trigger}"
    again = "*" if use.several and form.between is not None else "?"
    return "\n".join([*lines, f"called: {trigger} {rest} calls", f"start: called{again} TEXT", r"TEXT: /(.|\n)*/"])


def _literal(text: str, specials: Mapping[int, str]) -> str:
    """A text as terms of a grammar: strings, special tokens by their number, and any id for an id."""
    named = {spelled: f"<[{token}]>" for token, spelled in specials.items()} | {ID: f"/[A-Za-z0-9]{{{ID_LENGTH}}}/"}
    parts = re.split("(" + "|".join(map(re.escape, sorted(named, key=len, reverse=True))) + ")", text)
    return " ".join(named.get(part) or json.dumps(part, ensure_ascii=False) for part in parts if part)
