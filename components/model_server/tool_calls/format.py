"""How a model calls tools, derived from its own chat template.

A conversation with calls of probe names, which no tool has, is rendered, and the text around names and arguments is how
this model calls. Names must come before arguments; a template that does otherwise, or that writes arguments in an
unknown form, does not support tools here.
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
from components.model_server.tool_calls.arguments import PROBE_ARGUMENTS, ArgumentsFormat, JsonArguments
from components.model_server.tool_calls.elements import ElementArguments
from components.modeling.reasoning import CLOSE

if TYPE_CHECKING:
    from components.gguf.vocabulary import GgufVocabulary

PROBE_NAMES = ("lorryprobe_one", "lorryprobe_two")
# Nine letters and digits: Mistral's templates accept no other ids.
PROBE_IDS = ("lorryid01", "lorryid02")
ID_LENGTH = len(PROBE_IDS[0])
# Stands for a call's id in the text around calls.
ID = "\0"
_USER = Message(role="user", content="Hi")
# What begins a call, where it is no text of JSON: a tag, or a word in brackets.
_TAG = re.compile(r"(?:<[^\s<>]+>|\[[A-Z_]+\])")


@dataclass(frozen=True)
class CallFormat:
    """The text that a template writes around calls: head NAME middle ARGUMENTS (between NAME middle ARGUMENTS)* tail.

    ``between`` is None where the template accepts one call at a time. ``specials`` are the special tokens in that text
    which have no text when they are generated, with their spelling.
    """

    head: str
    middle: str
    arguments: ArgumentsFormat
    between: str | None
    tail: str
    specials: Mapping[int, str]

    @classmethod
    def from_template(cls, model: GgufVocabulary) -> CallFormat | None:
        """How the model's template writes calls; None where it does not support tools, or has an unknown form."""
        if not supports_tools(model):
            return None
        first = _cut(_rendered_answer(model, 1))
        if first is None:
            return None
        head, middle, arguments, tail = first
        # Reasoning before a call is no part of it.
        head, tail = head.rpartition(CLOSE)[2].lstrip(), _without_end(tail, model)
        form = cls(head, middle, arguments, _between(_rendered_answer(model, 2), middle), tail, {})
        if not head.strip() or any(name in segment for name in PROBE_NAMES for segment in form._segments):
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
        """The beginning of the head, by which a call is recognised."""
        tag = _TAG.match(self.head)
        return tag.group() if tag else self.head.rstrip()

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str] | None, re.Pattern[str]]:
        """Of head, middle, between and tail, with any white space: a model does not always follow its template."""
        head, middle, tail = (_pattern(text) for text in (self.head, self.middle, self.tail))
        return head, middle, None if self.between is None else _pattern(self.between), tail


def supports_tools(model: GgufVocabulary) -> bool:
    """Whether the template renders the tools of a request."""
    try:
        return PROBE_NAMES[0] in model.prompt([_USER], tools=_TOOLS)
    except ModelError:
        return False


_PARAMETERS = {
    "type": "object",
    "properties": {key: {"type": "string", "description": "Probe"} for key in PROBE_ARGUMENTS},
}
_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "Probe", "parameters": _PARAMETERS}}
    for name in PROBE_NAMES
]


def _rendered_answer(model: GgufVocabulary, n_calls: int) -> str | None:
    """The text of an answer that makes ``n_calls`` calls, as the template renders it; None where it raises an error."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": PROBE_ARGUMENTS}}
        for name, call_id in list(zip(PROBE_NAMES, PROBE_IDS, strict=True))[:n_calls]
    ]
    answer = Message(role="assistant", content="", tool_calls=calls)
    try:
        prompt = model.prompt([_USER], tools=_TOOLS)
        through = model.prompt([_USER, answer], tools=_TOOLS, add_generation_prompt=False)
    except ModelError:
        return None
    n_same = next((n for n, (one, other) in enumerate(zip(prompt, through, strict=False)) if one != other), len(prompt))
    # Two tags can begin alike: the common part ends with a whole tag, or with white space.
    if n_same < len(prompt):
        n_same = max(prompt.rfind(end, 0, n_same) + 1 for end in "> ]\n")
    text = through[n_same:]
    for call_id in PROBE_IDS:
        text = text.replace(call_id, ID)
    return text


def _between(answer: str | None, middle: str) -> str | None:
    """The text between two calls; None where the template accepts one at a time."""
    first = _cut(answer)
    second = first and _cut(first[3])
    return second[0] if second and second[1] == middle else None


def _cut(answer: str | None) -> tuple[str, str, ArgumentsFormat, str] | None:
    """The text before the first probe name, between it and its arguments, their form, and the text after them."""
    found = [(begin, name) for name in PROBE_NAMES if answer is not None and (begin := answer.find(name)) >= 0]
    if answer is None or not found:
        return None
    name_begin, name = min(found)
    after_name = answer[name_begin + len(name) :]
    for begin in (match.start() for match in re.finditer(r"\{", after_name)):
        try:
            arguments, end = json.JSONDecoder().raw_decode(after_name, begin)
        except ValueError:
            continue
        if arguments == PROBE_ARGUMENTS:
            return answer[:name_begin], after_name[:begin], JsonArguments(), after_name[end:]
    elements = ElementArguments.cut(after_name)
    return None if elements is None else (answer[:name_begin], *elements)


def _without_end(tail: str, model: GgufVocabulary) -> str:
    """The tail up to the token that ends an answer."""
    for token in model.tokenize(tail.replace(ID, ""), special=True):
        if model.is_end(token):
            return tail.partition(model.spelled(token))[0]
    return tail


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.findall(rf"\w+|{ID}|[^\w\s]", text)
    return re.compile(r"\s*" + r"\s*".join(r"\w+" if part == ID else re.escape(part) for part in parts))
