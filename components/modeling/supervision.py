"""Rows as token sequences with labels: the prompts of a server are context, the answers of the model are supervised.

Supervision begins where the served prompt ends, and ends with the token that ends a turn. Where a template renders
earlier turns differently from the last one (it leaves out their reasoning), no single sequence contains every prompt,
and a row becomes several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.errors import ModelError
from components.modeling.base_model import load_config
from components.modeling.reasoning import split_reasoning
from components.modeling.token_loss import Example
from components.modeling.tokenizer import continuation_ids, ids_of
from components.modeling.turns import Turn, turn_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def turns_of(tokenizer: PreTrainedTokenizerBase, template: str, row: Row) -> list[Turn]:
    """Every answer of a row that is trained on; the reasoning of earlier answers is left out, as clients leave it out.

    Raises:
        ModelError: see ``turn_of``.
    """
    return [turn_of(tokenizer, template, before, row.messages[len(before)], row.tools) for before in prompts_of(row)]


def prompts_of(row: Row) -> list[list[Message]]:
    """The messages before each answer of a row that is trained on, as a server would be given them."""
    return [
        [_without_reasoning(earlier) for earlier in row.messages[:index]]
        for index, message in enumerate(row.messages)
        if message.role == "assistant" and message.weight != 0
    ]


def _without_reasoning(message: Message) -> Message:
    if message.role != "assistant":
        return message
    _, content = split_reasoning(message.content)
    return message.model_copy(update={"reasoning_content": None, "content": content})


def sequences_of(tokenizer: PreTrainedTokenizerBase, template: str, row: Row) -> list[Example]:
    """The row as token sequences with labels: the ids of the answers, -100 elsewhere.

    A sequence continues as long as the next answer's prompt begins with it, token by token, and ends as the template
    ends the conversation.

    Raises:
        ModelError: see ``turn_of``.
    """
    sequences: list[Example] = []
    ids: list[int] = []
    labels: list[int] = []
    turns = turns_of(tokenizer, template, row)
    for number, turn in enumerate(turns):
        prompt, answer = _tokens(tokenizer, turn)
        if prompt[: len(ids)] != ids:
            sequences.append(_with_suffix(tokenizer, turns[number - 1], Example(ids, labels)))
            ids, labels = [], []
        labels = [*labels, *[-100] * (len(prompt) - len(ids)), *answer]
        ids = [*prompt, *answer]
    return [*sequences, _with_suffix(tokenizer, turns[-1], Example(ids, labels))] if turns else []


def _with_suffix(tokenizer: PreTrainedTokenizerBase, last: Turn, example: Example) -> Example:
    """The sequence with the suffix of its last turn, which is not supervised."""
    whole = ids_of(tokenizer, last.prompt + last.answer + last.suffix) if last.suffix else []
    n = len(example.input_ids)
    if whole[:n] != example.input_ids:
        return example
    return Example(whole, [*example.labels, *[-100] * (len(whole) - n)])


def _tokens(tokenizer: PreTrainedTokenizerBase, turn: Turn) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, as a server reads it, and of the answer after it."""
    prompt = ids_of(tokenizer, turn.prompt)
    whole = ids_of(tokenizer, turn.prompt + turn.answer)
    if whole[: len(prompt)] == prompt:
        return prompt, whole[len(prompt) :]
    # A token would span the end of the prompt; no served prompt ends in the middle of a token.
    return prompt, continuation_ids(tokenizer, turn.answer)


def examples_of(
    base_model: BaseModelRef,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    rows: Sequence[Row],
    max_length: int | None = None,
) -> tuple[list[list[Example]], dict[str, str]]:
    """The sequences of each row, none for a row that the base model cannot read; and the reasons by those rows' ids.

    With ``max_length`` the sequences are cut to that many tokens, and those without a supervised one left out.

    Raises:
        ModelError: the base model's config cannot be read.
    """
    n_tokens = load_config(base_model).get_text_config().vocab_size
    examples, refused = [], {}
    for row in rows:
        try:
            sequences = sequences_of(tokenizer, template, row)
            _require_embedded(tokenizer, sequences, n_tokens)
        except ModelError as error:
            sequences = []
            refused[row.id] = str(error)
        if max_length is not None:
            sequences = [cut for one in sequences if (cut := one.cut(max_length)).n_supervised]
        examples.append(sequences)
    return examples, refused


def _require_embedded(tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Example], n_tokens: int) -> None:
    """Check that every token has a row in the embedding.

    Raises:
        ModelError: one has none.
    """
    highest = max((token for sequence in sequences for token in sequence.input_ids), default=0)
    if highest >= n_tokens:
        raise ModelError(
            f"has the token {tokenizer.convert_ids_to_tokens(highest)!r} (number {highest}), for which the base "
            f"model's embedding of {n_tokens} tokens has no row"
        )


def end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> int:
    """The id of the token that ends an answer.

    Raises:
        ModelError: see ``turn_of``.
    """
    row = Row(id="", messages=[Message(role="user", content="Hi"), Message(role="assistant", content="Yes")])
    (turn,) = turns_of(tokenizer, template, row)
    return _tokens(tokenizer, turn)[1][-1]
