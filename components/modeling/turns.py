"""The text of one turn: the prompt that a server would be given, and the answer that the model generates to it.

The two come from a chat template, rendered once without the answer and once with it. Templates that ask for an answer
in another way than they write it, or that drop a part of the conversation, are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.modeling.chat_template import has_system, missing_calls, render_with
from components.modeling.reasoning import CLOSE, OPEN, before_reasoning, split_reasoning
from components.modeling.tokenizer import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Characters of a text that a message shows.
_SHOWN = 40

Tools = Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class Turn:
    """One answer as text: ``prompt`` asks for it, ``answer`` is what the model generates, up to the end of the turn.

    ``suffix`` is what the template writes after that, such as ChatML's newline; a model never generates it.
    """

    prompt: str
    answer: str
    suffix: str = ""


def turn_of(
    tokenizer: PreTrainedTokenizerBase, template: str, before: Sequence[Message], message: Message, tools: Tools
) -> Turn:
    """The turn in which the assistant answers the messages ``before`` with ``message``.

    Raises:
        ModelError: the template refuses the conversation, drops a part of it, or asks for an answer in another way than
            it writes it.
    """
    prompt = render_with(tokenizer, template, before, add_generation_prompt=True, tools=tools)
    rendered = render_with(tokenizer, template, [*before, message], tools=tools)
    whole = _answer(tokenizer, prompt, rendered, message)
    answer = _until_end_of_turn(tokenizer, whole, message)
    _require_nothing_lost(prompt, answer, before, message, tools)
    return Turn(prompt, answer, whole.removeprefix(answer) if whole.startswith(answer) else "")


def _answer(tokenizer: PreTrainedTokenizerBase, prompt: str, rendered: str, message: Message) -> str:
    """What ``rendered``, the conversation with its answer, has after ``prompt``."""
    unopened = before_reasoning(prompt)
    if unopened is not None and rendered.startswith(unopened):
        if not rendered.startswith(prompt):
            return _with_reasoning_closed(rendered[len(unopened) :], message)
        rest = rendered[len(prompt) :]
        return rest if _closes_reasoning_once(rest, message) else _with_reasoning_closed(rest, message)
    if rendered.startswith(prompt):
        return rendered[len(prompt) :]
    # The words of an answer may be part of a token's name: "end" is in <|im_end|>.
    body = _without_end(tokenizer, rendered)
    begin = body.rfind(message.content.strip()) if _is_plain(message) else -1
    if begin > 0 and _asks_for(tokenizer, prompt, rendered[:begin]):
        return rendered[begin:]
    same = common_length(prompt, rendered)
    raise ModelError(
        f"the chat template asks for this answer with {prompt[same:][:_SHOWN]!r} and writes it as "
        f"{rendered[same:][:_SHOWN]!r}: a server would ask for it in another way than it is trained"
    )


def _reasoning_of(message: Message) -> str:
    return (message.reasoning_content or split_reasoning(message.content)[0] or "").strip()


def _closes_reasoning_once(rest: str, message: Message) -> bool:
    """Whether an answer to a prompt that opens reasoning is the reasoning, its closing tag, and no more tags."""
    reasoning, closed, answer = rest.partition(CLOSE)
    return (
        bool(closed) and reasoning.strip() == _reasoning_of(message) and not answer.lstrip().startswith((OPEN, CLOSE))
    )


def _with_reasoning_closed(rest: str, message: Message) -> str:
    """An answer to a prompt that opens reasoning: the reasoning, closed once, and what the template writes after it.

    Templates write the reasoning, or leave it out, or close a tag that they have not opened.
    """
    reasoning = _reasoning_of(message)
    words, gap, closed = rest.lstrip(), "\n\n", ""
    while True:
        block, found, after = words.removeprefix(OPEN).partition(CLOSE)
        if not found or block.strip() not in ("", reasoning):
            break
        words = after.lstrip()
        gap = after[: len(after) - len(words)]
        closed = closed or f"{block.lstrip() if block.strip() else block}{CLOSE}"
    if not closed or split_reasoning(closed, opened=True)[0] != (reasoning or None):
        closed = f"{reasoning}\n{CLOSE}"
    return f"{closed}{gap}{words}"


def _without_end(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text without the special tokens and the white space at its end."""
    while True:
        shorter = text.rstrip()
        for token in special_tokens(tokenizer):
            shorter = shorter.removesuffix(token)
        if shorter == text:
            return text
        text = shorter


def _is_plain(message: Message) -> bool:
    """Whether a message has content only: no tool calls and no reasoning."""
    return bool(message.content.strip()) and not message.tool_calls and not message.reasoning_content


def _asks_for(tokenizer: PreTrainedTokenizerBase, prompt: str, lead: str) -> bool:
    """Whether a prompt is equivalent to ``lead``, the text before an answer's words.

    It may have more at its end, such as reasoning that is closed at once, or less before its last token.
    """
    return prompt.startswith(lead) or any(
        prompt.endswith(token) and lead.endswith(token) for token in special_tokens(tokenizer)
    )


def common_length(one: Sequence[object], other: Sequence[object]) -> int:
    """The length of the common prefix of two texts in characters, or of two lists of tokens."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _until_end_of_turn(tokenizer: PreTrainedTokenizerBase, answer: str, message: Message) -> str:
    """The answer up to and including the special tokens that end it; where the template writes none, the end of text.

    A server stops there.

    Raises:
        ModelError: the tokenizer has no end of text.
    """
    content = split_reasoning(message.content)[1].strip()
    begin = answer.rfind(CLOSE) + len(CLOSE) if CLOSE in answer and CLOSE not in content else 0
    at = answer.find(content, begin) if content and not message.tool_calls else -1
    if at >= 0 and (end := _end_of_tokens(tokenizer, answer, at + len(content))) is not None:
        return answer[:end]
    words = answer.rstrip()
    if words.endswith(special_tokens(tokenizer)):
        return words
    if not tokenizer.eos_token:
        raise ModelError("neither the chat template nor the tokenizer ends an answer: a server would never stop")
    return f"{words}{tokenizer.eos_token}"


def _end_of_tokens(tokenizer: PreTrainedTokenizerBase, text: str, at: int) -> int | None:
    """The end of the special tokens that follow position ``at``, after white space; None where none follows."""
    at += len(text[at:]) - len(text[at:].lstrip())
    end = None
    while (token := next((t for t in special_tokens(tokenizer) if text.startswith(t, at)), None)) is not None:
        at = end = at + len(token)
    return end


def _require_nothing_lost(prompt: str, answer: str, before: Sequence[Message], message: Message, tools: Tools) -> None:
    """Check that prompt and answer contain the whole conversation, and the answer in the form a server returns it.

    Raises:
        ModelError: the template drops or changes a part.
    """
    _require_answer(prompt, answer, message)
    for _, name in (*missing_calls([message], answer), *missing_calls(before, prompt)):
        raise ModelError(f"the chat template does not write tool calls (the call of {name!r} is missing)")
    for name in _function_names(tools):
        if name not in prompt:
            raise ModelError(f"the chat template does not write tools (the tool {name!r} is missing)")
    for earlier in before:
        if not any(form in prompt for form in _forms_of(earlier)):
            what = "system message" if has_system([earlier]) else f"{earlier.role} turn"
            raise ModelError(f"the chat template leaves out the {what} {earlier.content.strip()[:_SHOWN]!r}")


def _require_answer(prompt: str, answer: str, message: Message) -> None:
    """Check that the answer has the message's reasoning and content, in a form from which both can be split again."""
    reasoning, content = split_reasoning(message.content)
    for text in (content, reasoning, message.reasoning_content):
        if text and text.strip() not in answer:
            what = "answer" if text is content else "reasoning (reasoning_content)"
            raise ModelError(f"the chat template does not write the {what} {text.strip()[:_SHOWN]!r} as it is")
    opened = before_reasoning(prompt) is not None
    if opened and not split_reasoning(answer, opened=True)[1].startswith(content.strip()):
        raise ModelError(f"the chat template does not end the reasoning before the answer {content.strip()[:_SHOWN]!r}")
    lead = answer.partition(content.strip())[0] if content.strip() else ""
    # Some formats write reasoning as a message of its own.
    if not message.reasoning_content and "assistant" in split_reasoning(lead, opened=opened)[1].lower():
        raise ModelError(
            f"the chat template writes {lead[:_SHOWN]!r} before an answer and does not ask for one with it: it "
            "ignores add_generation_prompt"
        )


def _forms_of(message: Message) -> Iterator[str]:
    """The forms in which a template may write a message's content; that of a tool may be JSON text."""
    text = message.content.strip()
    yield text
    if message.role == "tool":
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield json.dumps(text)[1:-1]


def _function_names(tools: Tools) -> Iterator[str]:
    return (str(tool["function"]["name"]) for tool in tools or ())
