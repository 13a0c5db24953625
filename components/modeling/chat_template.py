"""Rendering and fingerprints of chat templates, for training, export and serving alike.

A template is code that came with a model file, so it runs in Jinja's immutable sandbox. Rendering is a pure function of
template and messages: the date that some templates print is pinned, as the tokens would change daily otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from components.artifacts.contracts import Message
from components.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The date that Llama 3.2's own template falls back to.
PINNED_DATE = "26 Jul 2024"
# A word that no template contains: a template that writes it supports the message which holds it.
PROBE = "lorryprobe"
PROBED = (Message(role="user", content="Hi"), Message(role="assistant", content=PROBE))


class _GenerationBlock(Extension):
    """Accept ``{% generation %}`` as transformers does, and ignore it: supervision follows from rendering."""

    tags = {"generation"}  # noqa: RUF012  # as Extension declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _raise_exception(message: str) -> str:
    raise TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Jinja's own filter escapes HTML characters, which would reach the model as \u0026.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda _format: PINNED_DATE
    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise ModelError(f"the chat template cannot be read ({error}); use a model with a valid template") from error


def render(
    template: str,
    messages: Sequence[Message],
    *,
    bos_token: str = "",
    eos_token: str = "",
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The conversation as the text that the model reads, with special tokens spelled out.

    ``template_kwargs`` are variables of the template that a user may set, such as ``enable_thinking``. Where the
    template does not support a system message, its text is put at the beginning of the first user turn.

    Raises:
        ModelError: the template is not valid, or it refuses these messages.
    """
    if has_system(messages) and not supports_system(template, bos_token, eos_token):
        messages = _with_system_in_first_turn(messages)
    forms = _forms(messages)
    for form in forms:
        try:
            return _render(template, form, bos_token, eos_token, add_generation_prompt, tools, template_kwargs)
        except ModelError:
            if form is forms[-1]:
                raise
    raise AssertionError("a conversation has at least one form")


def _render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    bos_token: str,
    eos_token: str,
    add_generation_prompt: bool,
    tools: Sequence[Mapping[str, Any]] | None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    try:
        return _compiled(template).render(
            **(template_kwargs or {}),
            messages=messages,
            bos_token=bos_token,
            eos_token=eos_token,
            add_generation_prompt=add_generation_prompt,
            date_string=PINNED_DATE,
            **({"tools": tools} if tools else {}),
        )
    except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError, AttributeError, RecursionError) as error:
        raise ModelError(f"the chat template refuses this conversation: {error}") from error


def _forms(messages: Sequence[Message]) -> list[list[dict[str, Any]]]:
    """The forms in which templates accept tool calls: arguments as object or JSON text, content empty or None."""
    if not any(message.tool_calls for message in messages):
        return [[message.model_dump() for message in messages]]
    return [
        [_with_tool_calls(message, as_object, no_content) for message in messages]
        for as_object in (True, False)
        for no_content in ("", None)
    ]


def _with_tool_calls(message: Message, as_object: bool, no_content: str | None) -> dict[str, Any]:
    document = message.model_dump()
    if message.tool_calls:
        document["content"] = message.content or no_content
        document["tool_calls"] = [_call(call, as_object) for call in message.tool_calls]
    return document


def _call(call: Mapping[str, Any], as_object: bool) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    if not as_object:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": arguments}}


def missing_calls(messages: Sequence[Message], text: str) -> Iterator[tuple[int, str]]:
    """The tool calls that a rendered conversation lacks: number of the message and name of the function."""
    for number, message in enumerate(messages):
        for call in message.tool_calls or ():
            name = str(call["function"]["name"])
            if name not in text:
                yield number, name


def has_system(messages: Sequence[Message]) -> bool:
    """Whether a conversation begins with a system message."""
    return bool(messages) and messages[0].role == "system"


@lru_cache(maxsize=8)
def supports_system(template: str, bos_token: str = "", eos_token: str = "") -> bool:
    """Whether the template supports a system message, unlike Gemma 2's."""
    user = {"role": "user", "content": "Hi"}
    try:
        text = _render(template, [{"role": "system", "content": PROBE}, user], bos_token, eos_token, True, None)
    except ModelError:
        try:
            _render(template, [user], bos_token, eos_token, True, None)
        except ModelError:
            return True  # it does not refuse because of the system message
        return False
    return PROBE in text


@dataclass(frozen=True)
class Edges:
    """White space around an answer that the model generates and the template writes, but that is not part of it."""

    lead: str = ""
    tail: str = ""

    @classmethod
    def of(cls, generated: str) -> Edges:
        """The white space around the probe in a generated text."""
        before, found, after = generated.partition(PROBE)
        tail = after[: len(after) - len(after.lstrip())]
        return cls(before if before.isspace() else "", tail) if found else cls()

    def without(self, answer: str) -> str:
        """The answer without this white space."""
        return answer.removeprefix(self.lead).removesuffix(self.tail)


@lru_cache(maxsize=8)
def answer_edges(template: str, bos_token: str = "", eos_token: str = "") -> Edges:
    """The white space that the template writes after the generation prompt, and before the end of an answer."""
    user, assistant = PROBED
    try:
        prompt = render(template, [user], bos_token=bos_token, eos_token=eos_token, add_generation_prompt=True)
        through = render(template, [user, assistant], bos_token=bos_token, eos_token=eos_token)
    except ModelError:
        return Edges()
    generated = through[len(prompt) :] if through.startswith(prompt) else ""
    edges = Edges.of(generated)
    # White space at the very end comes after the end of the answer.
    return edges if generated.rstrip() != generated.partition(PROBE)[0] + PROBE else Edges(edges.lead)


def _with_system_in_first_turn(messages: Sequence[Message]) -> Sequence[Message]:
    system, *rest = messages
    if not rest or rest[0].role != "user":
        return messages
    first = rest[0].model_copy(update={"content": f"{system.content}\n\n{rest[0].content}"})
    return [first, *rest[1:]]


def fingerprint(template: str) -> str:
    """sha256 of the template's text, as hexadecimal digits."""
    return hashlib.sha256(template.encode()).hexdigest()


def template_of(tokenizer: PreTrainedTokenizerBase, address: str) -> str:
    """The tokenizer's chat template.

    Raises:
        ModelError: there is none, or there are several and no default.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise ModelError(
            f"{address}: its tokenizer has no chat template; choose an instruct model as base_model, "
            "or add a chat_template.jinja to the model's folder"
        )
    return str(template)


def render_with(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """``render`` with the tokenizer's beginning and end of text."""
    return render(
        template,
        messages,
        bos_token=str(tokenizer.bos_token or ""),
        eos_token=str(tokenizer.eos_token or ""),
        add_generation_prompt=add_generation_prompt,
        tools=tools,
    )
