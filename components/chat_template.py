"""Rendering and fingerprinting a chat template: one place for training, export and serving.

A template is code that came with a model file, so it runs in Jinja's immutable sandbox. Rendering is a pure
function of template and messages: the date that some templates print is pinned, or the tokens would change daily.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from components.contracts import Message
from components.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The date that Llama 3.2's own template falls back to.
PINNED_DATE = "26 Jul 2024"


class _GenerationBlock(Extension):
    """Accept ``{% generation %}`` as transformers does. The mask is found by rendering, so the tag is transparent."""

    tags = {"generation"}  # noqa: RUF012  # as Extension declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _raise_exception(message: str) -> str:
    raise TemplateError(message)


def _tojson(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes HTML characters, which would reach the model as \u0026.
    return json.dumps(value, ensure_ascii=False, indent=indent)


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
) -> str:
    """The conversation as the text the model sees, special tokens spelled out.

    Raises:
        ModelError: the template is not valid, or it refuses these messages.
    """
    try:
        return _compiled(template).render(
            messages=[message.model_dump() for message in messages],
            bos_token=bos_token,
            eos_token=eos_token,
            add_generation_prompt=add_generation_prompt,
            date_string=PINNED_DATE,
        )
    except TemplateError as error:
        raise ModelError(f"the chat template refuses this conversation: {error}") from error


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
) -> str:
    """``render`` with the special tokens that the tokenizer names."""
    return render(
        template,
        messages,
        bos_token=str(tokenizer.bos_token or ""),
        eos_token=str(tokenizer.eos_token or ""),
        add_generation_prompt=add_generation_prompt,
    )


def supervised_spans(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: Sequence[Message]
) -> tuple[str, list[tuple[int, int]]]:
    """The rendered conversation and the character ranges that the assistant wrote, its end-of-turn token included.

    What the assistant writes in turn i is what rendering through turn i adds to rendering up to it with the
    generation prompt: no marker in the template is needed.

    Raises:
        ModelError: the template rewrites earlier turns, so the ranges cannot be told apart.
    """
    text = render_with(tokenizer, template, messages)
    spans = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = render_with(tokenizer, template, messages[:index], add_generation_prompt=True)
        through = render_with(tokenizer, template, messages[: index + 1])
        if not (text.startswith(through) and through.startswith(before)):
            raise ModelError(
                f"the chat template changes earlier turns when it renders turn {index + 1}; "
                "Lorry cannot tell which words are the assistant's with this base model"
            )
        spans.append((len(before), len(through)))
    return text, spans


def tokenize_conversation(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Token ids of the whole conversation, and labels: the same ids where the assistant speaks, -100 elsewhere.

    Both lists have one entry a token.
    """
    text, spans = supervised_spans(tokenizer, template, messages)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    input_ids: list[int] = encoding["input_ids"]
    labels = [
        token if any(first <= start and end <= last for first, last in spans) else -100
        for token, (start, end) in zip(input_ids, encoding["offset_mapping"], strict=True)
    ]
    return input_ids, labels
