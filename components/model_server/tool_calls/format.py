"""How a model calls tools, learnt from its own chat template.

The template renders a conversation with calls of names that no tool has, and what stands around names and arguments is
how this model calls. Names come before arguments; a template that does otherwise, or whose arguments are in a form that
is not known here, takes no tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.model_server.tool_calls.arguments import ARGUMENTS, Arguments, JsonArguments
from components.model_server.tool_calls.elements import ElementArguments
from components.modeling.reasoning import CLOSE

if TYPE_CHECKING:
    from components.gguf.vocabulary import GgufVocabulary

NAMES = ("lorryprobe_one", "lorryprobe_two")
# Nine letters and digits: Mistral's templates take no other ids.
IDS = ("lorryid01", "lorryid02")
ID_LENGTH = len(IDS[0])
# Stands for a call's id in what a template writes around calls.
ID = "\0"
_USER = Message(role="user", content="Hi")
# What begins a call, where it is no text of JSON: a tag, or a word in brackets.
_TAG = re.compile(r"(?:<[^\s<>]+>|\[[A-Z_]+\])")


@dataclass(frozen=True)
class CallFormat:
    """What a template writes around calls: head NAME middle ARGUMENTS (between NAME middle ARGUMENTS)* tail.

    ``between`` is None where the template takes one call at a time. ``specials`` are the tokens in all of them
    that have no text of their own.
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
        first = _cut(_said(model, 1))
        if first is None:
            return None
        head, middle, arguments, tail = first
        # Thoughts before a call are no part of it.
        head, tail = head.rpartition(CLOSE)[2].lstrip(), _without_end(tail, model)
        form = cls(head, middle, arguments, _between(_said(model, 2), middle), tail, {})
        if not head.strip() or any(name in segment for name in NAMES for segment in form._segments):
            return None
        tokens = {token for text in form._segments for token in model.tokenize(text.replace(ID, ""), special=True)}
        return replace(form, specials={token: model.spelled(token) for token in tokens if not model.piece(token)})

    @property
    def _segments(self) -> list[str]:
        segments = [self.head, self.middle, self.between or "", self.tail]
        if isinstance(self.arguments, ElementArguments):
            segments += [self.arguments.open, self.arguments.middle, self.arguments.close]
        return segments

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


def _between(said: str | None, middle: str) -> str | None:
    """What stands between two calls; None where the template takes one at a time."""
    first = _cut(said)
    second = first and _cut(first[3])
    return second[0] if second and second[1] == middle else None


def _cut(said: str | None) -> tuple[str, str, Arguments, str] | None:
    """What stands before the first name, between it and its arguments, how those are written, and what follows."""
    places = [(place, name) for name in NAMES if said is not None and (place := said.find(name)) >= 0]
    if said is None or not places:
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
