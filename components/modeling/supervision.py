"""What a row teaches: for each answer the prompt that a server would be asked with, and what the model says to it.

What is supervised begins where the served prompt ends, and ends with the token that ends a turn. Where a template
writes earlier turns as it would not write the last one (it leaves out their thoughts), one sequence cannot hold every
prompt, and a row becomes several.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.errors import ModelError
from components.modeling.base_model import load_config
from components.modeling.chat_template import has_system, missing_calls, render_with
from components.modeling.reasoning import CLOSE, OPEN, before_reasoning, split_reasoning
from components.modeling.token_loss import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHOWN = 40


@dataclass(frozen=True)
class Turn:
    """One answer: the text of the prompt that asks for it, the text that a model shall say to it, and what the template
    writes behind that, such as ChatML's newline, which nobody says."""

    prompt: str
    answer: str
    behind: str = ""


def turns_of(tokenizer: PreTrainedTokenizerBase, template: str, row: Row) -> list[Turn]:
    """Every answer of a row that counts; thoughts of earlier answers are left out, as clients leave them out.

    Raises:
        ModelError: the template refuses the conversation, has no place for what it says, or asks for an answer in
            another way than it writes it.
    """
    return [_turn(tokenizer, template, before, row.messages[len(before)], row.tools) for before in prompts_of(row)]


def prompts_of(row: Row) -> list[list[Message]]:
    """What a server would be asked for each answer of a row that counts: the messages before it."""
    return [
        [_without_thoughts(earlier) for earlier in row.messages[:index]]
        for index, message in enumerate(row.messages)
        if message.role == "assistant" and message.weight != 0
    ]


def sequences_of(tokenizer: PreTrainedTokenizerBase, template: str, row: Row) -> list[Example]:
    """The row as token sequences, each with labels: the ids of the answers, -100 elsewhere.

    A sequence goes on as long as the next answer's prompt begins with it, token by token, and ends as the template
    ends the conversation.

    Raises:
        ModelError: as ``turns_of``.
    """
    sequences: list[Example] = []
    ids: list[int] = []
    labels: list[int] = []
    turns = turns_of(tokenizer, template, row)
    for number, turn in enumerate(turns):
        prompt, answer = _tokens(tokenizer, turn)
        if prompt[: len(ids)] != ids:
            sequences.append(_as_the_template_ends_it(tokenizer, turns[number - 1], Example(ids, labels)))
            ids, labels = [], []
        labels = [*labels, *[-100] * (len(prompt) - len(ids)), *answer]
        ids = [*prompt, *answer]
    return [*sequences, _as_the_template_ends_it(tokenizer, turns[-1], Example(ids, labels))] if turns else []


def _as_the_template_ends_it(tokenizer: PreTrainedTokenizerBase, last: Turn, example: Example) -> Example:
    """The sequence with what the template writes behind its last answer, which is not supervised."""
    whole = _ids(tokenizer, last.prompt + last.answer + last.behind) if last.behind else []
    n = len(example.input_ids)
    if whole[:n] != example.input_ids:
        return example
    return Example(whole, [*example.labels, *[-100] * (len(whole) - n)])


def examples_of(
    base_model: BaseModelRef,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    rows: Sequence[Row],
    max_length: int | None = None,
) -> tuple[list[list[Example]], dict[str, str]]:
    """The sequences of each row, none of a row that the base model cannot read; why, by the ids of those rows.

    With ``max_length`` they are cut to so many tokens, and those without a supervised one left out.

    Raises:
        ModelError: the base model's config cannot be read.
    """
    n_tokens = load_config(base_model).get_text_config().vocab_size
    examples, refused = [], {}
    for row in rows:
        try:
            sequences = sequences_of(tokenizer, template, row)
            _require_rows_for(tokenizer, sequences, n_tokens)
        except ModelError as error:
            sequences = []
            refused[row.id] = str(error)
        if max_length is not None:
            sequences = [cut for one in sequences if (cut := one.cut(max_length)).n_supervised]
        examples.append(sequences)
    return examples, refused


def _require_rows_for(tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Example], n_tokens: int) -> None:
    highest = max((token for sequence in sequences for token in sequence.input_ids), default=0)
    if highest >= n_tokens:
        raise ModelError(
            f"has the token {tokenizer.convert_ids_to_tokens(highest)!r} (number {highest}), for which the base "
            f"model's embedding of {n_tokens} tokens has no row"
        )


def end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> int:
    """The token that ends an answer.

    Raises:
        ModelError: as ``turns_of``.
    """
    row = Row(id="", messages=[Message(role="user", content="Hi"), Message(role="assistant", content="Yes")])
    (turn,) = turns_of(tokenizer, template, row)
    return _tokens(tokenizer, turn)[1][-1]


def _without_thoughts(message: Message) -> Message:
    if message.role != "assistant":
        return message
    _, content = split_reasoning(message.content)
    return message.model_copy(update={"reasoning_content": None, "content": content})


def _turn(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    before: Sequence[Message],
    message: Message,
    tools: Sequence[Mapping[str, Any]] | None,
) -> Turn:
    prompt = render_with(tokenizer, template, before, add_generation_prompt=True, tools=tools)
    through = render_with(tokenizer, template, [*before, message], tools=tools)
    answer = _answer(tokenizer, prompt, through, message)
    said = _until_end_of_turn(tokenizer, answer, message)
    _require_nothing_lost(prompt, said, before, message, tools)
    return Turn(prompt, said, answer.removeprefix(said) if answer.startswith(said) else "")


def _answer(tokenizer: PreTrainedTokenizerBase, prompt: str, through: str, message: Message) -> str:
    """What ``through`` says after ``prompt``."""
    unopened = before_reasoning(prompt)
    if unopened is not None and through.startswith(unopened):
        if not through.startswith(prompt):
            return _with_thoughts_closed(through[len(unopened) :], message)
        rest = through[len(prompt) :]
        return rest if _closes_thoughts_once(rest, message) else _with_thoughts_closed(rest, message)
    if through.startswith(prompt):
        return through[len(prompt) :]
    # The words of an answer may be those of a token's name: "end" is in <|im_end|>.
    body = _without_end(tokenizer, through)
    begin = body.rfind(message.content.strip()) if _is_plain(message) else -1
    if begin > 0 and _asks_for(tokenizer, prompt, through[:begin]):
        return through[begin:]
    same = n_common(prompt, through)
    raise ModelError(
        f"the chat template asks for this answer with {prompt[same:][:_SHOWN]!r} and writes it as "
        f"{through[same:][:_SHOWN]!r}: a server would ask for it in another way than it is trained"
    )


def _thoughts_of(message: Message) -> str:
    return (message.reasoning_content or split_reasoning(message.content)[0] or "").strip()


def _closes_thoughts_once(rest: str, message: Message) -> bool:
    """Whether an answer to a prompt that has opened thoughts is the thoughts, what closes them, and no more tags."""
    thoughts, closed, answer = rest.partition(CLOSE)
    return bool(closed) and thoughts.strip() == _thoughts_of(message) and not answer.lstrip().startswith((OPEN, CLOSE))


def _with_thoughts_closed(rest: str, message: Message) -> str:
    """An answer to a prompt that has opened thoughts: these, closed once, and what the template writes behind them.

    Templates write them, or leave them out, or close what they have not opened.
    """
    thoughts = _thoughts_of(message)
    words, gap, closed = rest.lstrip(), "\n\n", ""
    while True:
        block, found, after = words.removeprefix(OPEN).partition(CLOSE)
        if not found or block.strip() not in ("", thoughts):
            break
        words = after.lstrip()
        gap = after[: len(after) - len(words)]
        closed = closed or f"{block.lstrip() if block.strip() else block}{CLOSE}"
    if not closed or split_reasoning(closed, opened=True)[0] != (thoughts or None):
        closed = f"{thoughts}\n{CLOSE}"
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
    """Whether a message is nothing but words."""
    return bool(message.content.strip()) and not message.tool_calls and not message.reasoning_content


def _asks_for(tokenizer: PreTrainedTokenizerBase, prompt: str, lead: str) -> bool:
    """Whether a prompt stands for ``lead``, which comes before an answer's words.

    It may say more at its end, such as thoughts that are closed at once, or less of what came before its last token.
    """
    return prompt.startswith(lead) or any(
        prompt.endswith(token) and lead.endswith(token) for token in special_tokens(tokenizer)
    )


def n_common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many characters, or tokens, two texts begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _require_nothing_lost(
    prompt: str,
    answer: str,
    before: Sequence[Message],
    message: Message,
    tools: Sequence[Mapping[str, Any]] | None,
) -> None:
    """Check that the template has written all that it was given, and the answer as a server would give it."""
    thoughts, content = split_reasoning(message.content)
    for text in (content, thoughts, message.reasoning_content):
        if text and text.strip() not in answer:
            what = "answer" if text is content else "thoughts (reasoning_content)"
            raise ModelError(f"the chat template does not write the {what} {text.strip()[:_SHOWN]!r} as it is")
    opened = before_reasoning(prompt) is not None
    if opened and not split_reasoning(answer, opened=True)[1].startswith(content.strip()):
        raise ModelError(f"the chat template does not end the thoughts before the answer {content.strip()[:_SHOWN]!r}")
    lead = answer.partition(content.strip())[0] if content.strip() else ""
    # Some formats write thoughts as a message of the assistant's own.
    if not message.reasoning_content and "assistant" in split_reasoning(lead, opened=opened)[1].lower():
        raise ModelError(
            f"the chat template writes {lead[:_SHOWN]!r} before an answer and does not ask for one with it: it "
            "does not look at add_generation_prompt"
        )
    for _, name in (*missing_calls([message], answer), *missing_calls(before, prompt)):
        raise ModelError(f"the chat template has no place for tool calls (the call of {name!r} vanishes)")
    for name in _function_names(tools):
        if name not in prompt:
            raise ModelError(f"the chat template has no place for tools (the tool {name!r} vanishes)")
    for earlier in before:
        if not any(form in prompt for form in _forms_of(earlier)):
            where = "system message" if has_system([earlier]) else f"{earlier.role} turn"
            raise ModelError(f"the chat template leaves out the {where} {earlier.content.strip()[:_SHOWN]!r}")


def _forms_of(message: Message) -> Iterator[str]:
    """The ways in which a template may write a message's text; what a tool says as JSON text too."""
    text = message.content.strip()
    yield text
    if message.role == "tool":
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield json.dumps(text)[1:-1]


def _function_names(tools: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    return (str(tool["function"]["name"]) for tool in tools or ())


def _until_end_of_turn(tokenizer: PreTrainedTokenizerBase, answer: str, message: Message) -> str:
    """The answer up to the special token, or tokens side by side, that end it. What comes behind is the template's own,
    such as ChatML's newline: a server stops before it. Where the template ends no turn, the end of text does.

    Raises:
        ModelError: the tokenizer has none.
    """
    content = split_reasoning(message.content)[1].strip()
    begin = answer.rfind(CLOSE) + len(CLOSE) if CLOSE in answer and CLOSE not in content else 0
    at = answer.find(content, begin) if content and not message.tool_calls else -1
    if at >= 0 and (end := _end_behind(tokenizer, answer, at + len(content))) is not None:
        return answer[:end]
    words = answer.rstrip()
    if words.endswith(special_tokens(tokenizer)):
        return words
    if not tokenizer.eos_token:
        raise ModelError("neither the chat template nor the tokenizer ends an answer: a server would never stop")
    return f"{words}{tokenizer.eos_token}"


def _end_behind(tokenizer: PreTrainedTokenizerBase, text: str, place: int) -> int | None:
    """Where the special tokens end that follow ``place`` side by side, white space before them apart; None without."""
    place += len(text[place:]) - len(text[place:].lstrip())
    end = None
    while (token := next((t for t in special_tokens(tokenizer) if text.startswith(t, place)), None)) is not None:
        place = end = place + len(token)
    return end


@lru_cache(maxsize=4)
def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Every token that stands for no text of its own, longest first."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(sorted({*filter(None, tokenizer.all_special_tokens), *added}, key=len, reverse=True))


def _tokens(tokenizer: PreTrainedTokenizerBase, turn: Turn) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, as a server reads it, and of the answer behind it."""
    prompt = _ids(tokenizer, turn.prompt)
    whole = _ids(tokenizer, turn.prompt + turn.answer)
    if whole[: len(prompt)] == prompt:
        return prompt, whole[len(prompt) :]
    # A token would reach over the place where the prompt ends; no served prompt ends in a token's middle.
    return prompt, list(_continuing(tokenizer).encode(turn.answer, add_special_tokens=False).ids)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@lru_cache(maxsize=4)
def _continuing(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The same tokenizer for what goes on in a text: SentencePiece's space is not put before."""
    from tokenizers import Tokenizer

    document = json.loads(tokenizer.backend_tokenizer.to_str())
    normalizer = document.get("normalizer") or {}
    if "normalizers" in normalizer:
        normalizer["normalizers"] = [rule for rule in normalizer["normalizers"] if rule["type"] != "Prepend"]
    elif normalizer.get("type") == "Prepend":
        document["normalizer"] = None
    splitting = document.get("pre_tokenizer") or {}
    for rule in splitting.get("pretokenizers", [splitting]):
        if rule.get("type") == "Metaspace":
            rule["prepend_scheme"] = "never"
    return Tokenizer.from_str(json.dumps(document))
