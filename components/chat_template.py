"""Rendering and fingerprinting a chat template: one place for training, export and serving.

A template is code that came with a model file, so it runs in Jinja's immutable sandbox. Rendering is a pure
function of template and messages: the date that some templates print is pinned, or the tokens would change daily.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
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


# Around the assistant's words in a rendering for training; no text has them: they are for private use.
BEGINS, ENDS = "\ue0fe", "\ue0ff"
_GENERATION = re.compile(r"{%-?\s*generation\b")


class _GenerationBlock(Extension):
    """Accept ``{% generation %}`` as transformers does, and let it leave no mark."""

    tags = {"generation"}  # noqa: RUF012  # as Extension declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _MarkedGenerationBlock(_GenerationBlock):
    """Put marks where ``{% generation %}`` begins and ends."""

    def parse(self, parser: Parser) -> list[nodes.Node]:
        begin, end = (nodes.Output([nodes.TemplateData(mark)]) for mark in (BEGINS, ENDS))
        return [begin, *super().parse(parser), end]


def _raise_exception(message: str) -> str:
    raise TemplateError(message)


def _tojson(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes HTML characters, which would reach the model as \u0026.
    return json.dumps(value, ensure_ascii=False, indent=indent)


@lru_cache(maxsize=8)
def _compiled(template: str, marked: bool) -> Template:
    generation = _MarkedGenerationBlock if marked else _GenerationBlock
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[generation, loopcontrols]
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
    marked: bool = False,
) -> str:
    """The conversation as the text the model sees, special tokens spelled out.

    ``marked`` puts ``BEGINS`` and ``ENDS`` where the template's own ``{% generation %}`` begins and ends.

    Raises:
        ModelError: the template is not valid, or it refuses these messages.
    """
    try:
        return _compiled(template, marked).render(
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
    marked: bool = False,
) -> str:
    """``render`` with the special tokens that the tokenizer names."""
    return render(
        template,
        messages,
        bos_token=str(tokenizer.bos_token or ""),
        eos_token=str(tokenizer.eos_token or ""),
        add_generation_prompt=add_generation_prompt,
        marked=marked,
    )


def supervised_spans(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: Sequence[Message]
) -> tuple[str, list[tuple[int, int]]]:
    """The rendered conversation and the character ranges that the assistant wrote, its end-of-turn token included.

    A template that marks them with ``{% generation %}`` says so itself. Of another, what the assistant writes in turn i
    is what rendering through turn i adds to rendering up to it with the generation prompt. Where the template rewrites
    earlier turns, the words are marked in the messages. The text is the template's own in each case: what marks add is
    taken out again, and what is left must be that text.

    Raises:
        ModelError: none of the three tells the ranges apart.
    """
    text = render_with(tokenizer, template, messages)
    if _GENERATION.search(template):
        marked = render_with(tokenizer, template, messages, marked=True)
        spans = _spans_between_marks(marked, text, tokenizer)
    else:
        spans = _spans_by_prefixes(tokenizer, template, messages, text)
        if spans is None:
            marked = render_with(tokenizer, template, [_with_marks(message) for message in messages])
            spans = _spans_between_marks(marked, text, tokenizer)
    if spans is None:
        raise ModelError(
            "the chat template changes earlier turns and the assistant's words when it renders a conversation; Lorry "
            "cannot tell which words are the assistant's: add {% generation %} and {% endgeneration %} around them in "
            "the model's chat_template.jinja"
        )
    return text, spans


def _spans_by_prefixes(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: Sequence[Message], text: str
) -> list[tuple[int, int]] | None:
    spans = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = render_with(tokenizer, template, messages[:index], add_generation_prompt=True)
        through = render_with(tokenizer, template, messages[: index + 1])
        if not (text.startswith(through) and through.startswith(before)):
            return None
        spans.append((len(before), len(before) + _until_end_of_turn(text[len(before) : len(through)], tokenizer)))
    return spans


def _until_end_of_turn(said: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The length of what was ``said`` without white space behind its last special token.

    That is the template's own, such as ChatML's newline; a server stops before it.
    """
    words = said.rstrip()
    return len(words) if words.endswith(tuple(filter(None, tokenizer.all_special_tokens))) else len(said)


def _with_marks(message: Message) -> Message:
    if message.role != "assistant":
        return message
    # Outside the white space, which some templates trim.
    words = message.content.strip()
    before, _, after = message.content.partition(words)
    return message.model_copy(update={"content": f"{before}{BEGINS}{words}{ENDS}{after}"})


def _spans_between_marks(marked: str, text: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]] | None:
    """The ranges of ``text`` that marks enclose in ``marked``; None where that is not the same text with marks."""
    pieces = re.split(f"({BEGINS}|{ENDS})", marked)
    if "".join(pieces[::2]) != text or pieces[1::2] != [BEGINS, ENDS] * (len(pieces) // 4):
        return None
    ends_at = [sum(map(len, pieces[: 2 * i + 1 : 2])) for i in range(len(pieces) // 2)]
    return [
        (first, last + _end_of_turn(text[first:last], text[last:], tokenizer))
        for first, last in zip(ends_at[::2], ends_at[1::2], strict=True)
    ]


def _end_of_turn(said: str, after: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The length of the special token that comes after what was ``said``, which a model must learn to stop with."""
    tokens = [token for token in tokenizer.all_special_tokens if token]
    if said.rstrip().endswith(tuple(tokens)):
        return 0
    return max((len(token) for token in tokens if after.startswith(token)), default=0)


def tokenize_conversation(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Token ids of the whole conversation, and labels: the same ids where the assistant speaks, -100 elsewhere.

    Both lists have one entry a token. A token ends where the assistant begins to speak, for there a served prompt ends:
    an answer that begins with white space would else be read as one token with the template's own.
    """
    text, spans = supervised_spans(tokenizer, template, messages)
    input_ids, offsets = _tokens_of(tokenizer, text, 0)
    straddled = {start for start, _ in spans for begin, end in offsets if begin < start < end}
    if straddled and not _adds_a_space(tokenizer):
        cuts = sorted({0, *straddled, len(text)})
        pieces = [_tokens_of(tokenizer, text[begin:end], begin) for begin, end in pairwise(cuts)]
        input_ids = [token for ids, _ in pieces for token in ids]
        offsets = [offset for _, own in pieces for offset in own]
    labels = [
        token if any(first <= begin and end <= last for first, last in spans) else -100
        for token, (begin, end) in zip(input_ids, offsets, strict=True)
    ]
    return input_ids, labels


def _adds_a_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether any text begins with a space for the tokenizer, as for SentencePiece's: its parts are not the whole's."""
    return str(tokenizer.tokenize("a")[0]).startswith("▁")


def _tokens_of(tokenizer: PreTrainedTokenizerBase, text: str, place: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a text that begins at ``place``, and where each token begins and ends."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoding["input_ids"], [(place + begin, place + end) for begin, end in encoding["offset_mapping"]]
