"""What the tests of tool calls share: templates, tools, and answers as a model of a template would write them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trl

from components.artifacts.contracts import Message
from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import CallFormat
from components.model_server.tool_calls.parser import ParsedCall, ToolCallParser
from components.modeling.chat_template import render

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
LLAMA_CPP_TEMPLATES = Path(".venv/share/llama.cpp/models/templates")
ADD = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
PAINT = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
TOOLS = [
    {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": ADD}},
    {"type": "function", "function": {"name": "paint", "parameters": PAINT}},
]
PARAMETERS = {"add": ADD, "paint": PAINT}
NAMES = list(PARAMETERS)
ASKED = [{"role": "user", "content": "Hi"}]


# Tokens of their own, by characters that no template has.
ENDS = {0xE000: "<|im_end|>", 0xE001: "<|eot_id|>", 0xE002: "</s>"}


# Shorter than a real one: the model's context is.
SHORT = """{% if tools %}{% for tool in tools %}{{ tool.function | tojson }}{% endfor %}{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<call>{{ call.function.name }}:
{{- call.function.arguments | tojson }}</call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


class Rendering:
    """A model of a template; each character is a token, and so is what ends an answer."""

    def __init__(self, template: str) -> None:
        self._template = template

    def prompt(self, messages: Sequence[Message], **options: Any) -> str:
        options.setdefault("add_generation_prompt", True)
        return render(self._template, messages, bos_token="<s>", eos_token="</s>", **options)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        for token, end in ENDS.items():
            text = text.replace(end, chr(token))
        return list(map(ord, text))

    def piece(self, token: int) -> bytes:
        return b"" if token in ENDS else chr(token).encode()

    def spelled(self, token: int) -> str:
        return ENDS.get(token, chr(token))

    def is_end(self, token: int) -> bool:
        return token in ENDS


def form(name: str, folder: Path = TEMPLATES) -> CallFormat:
    found = CallFormat.from_template(Rendering((folder / f"{name}.jinja").read_text()))  # type: ignore[arg-type]
    assert found is not None
    return found


CALLS = [ParsedCall("add", '{"a": 1, "b": {"<tool_call>": "}]"}}'), ParsedCall("paint", '{"colour": "red"}')]


def written_arguments(form: Any, arguments: str) -> str:
    if isinstance(form, JsonArguments):
        return arguments
    values = {key: one if isinstance(one, str) else json.dumps(one) for key, one in json.loads(arguments).items()}
    return "".join(f"{form.open}{key}{form.middle}{one}{form.close}" for key, one in values.items())


def written(found: CallFormat, calls: Sequence[ParsedCall]) -> str:
    bodies = [f"{call.name}{found.middle}{written_arguments(found.arguments, call.arguments)}" for call in calls]
    return found.head + (found.between or "").join(bodies) + found.tail


def read(stream: ToolCallParser, text: str, seed: int) -> tuple[str, list[ParsedCall]]:
    """The text and the calls of an answer that comes in pieces."""
    pieces, draw = [], random.Random(seed)
    while text:
        n = draw.randint(1, 9)
        pieces.append(text[:n])
        text = text[n:]
    found = [one for piece in pieces for one in stream.feed(piece)] + stream.finish()
    return "".join(one for one in found if isinstance(one, str)), [one for one in found if isinstance(one, ParsedCall)]
