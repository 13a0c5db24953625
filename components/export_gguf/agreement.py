"""Checks that a GGUF file tokenizes prompts as training did, and that a server stops where an answer ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import Message, Row
from components.errors import ModelError
from components.gguf.vocabulary import GgufVocabulary
from components.modeling.chat_template import render_with, template_of
from components.modeling.supervision import end_of_turn, prompts_of
from components.modeling.tokenizer import special_tokens
from components.modeling.turns import common_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts on which two implementations of a tokenizer tend to differ.
HARD_TEXTS = (
    "What is Lorry?", " leading and trailing  ", "a\n\n\nb\r\nc\td", "\nfirst line empty", "  12   34 \n\n x\t\ty  ",
    "In 2024 we sold 1234567 items for $99.95, 1,234.5 + 2+2=4 and 10^23!", "I'm, you'RE, don't, we'VE, O'Neil's",
    "def f(x):\n\treturn {'a': [1, 22, 333]}  # done!!!\n    if x >= 10: pass", "<b>html</b> & {{ braces }} \\n %s",
    "naïve Übergröße cafe\u0301 o\u0308l", "你好 世界 日本語のテキスト 한국어", "مرحبا नमस्ते Привет ١٢ Ⅷ ½ x²",
    "🙂👍🏽👩\u200d👧 and … — “quotes” \u00a0nbsp\u200b", "https://example.org/a_b?c=d&e=%20#f", "a", "\n",
)  # fmt: skip
# Tokens shown around the first difference.
_BEFORE, _AFTER = 2, 6


def require_agreement(
    tokenizer: PreTrainedTokenizerBase, vocabulary: GgufVocabulary, address: str, rows: Sequence[Row] = ()
) -> int:
    """Compare the token ids of the prompts of hard texts and of ``rows``; return the number of prompts.

    Raises:
        ModelError: the token ids of a prompt differ, or a server would not stop where training ends a turn; the message
            shows the first difference.
    """
    template = template_of(tokenizer, address)
    end = end_of_turn(tokenizer, template)
    if not vocabulary.is_end(end):
        raise ModelError(
            f"{address}: training ends an answer with {tokenizer.convert_ids_to_tokens(end)!r}, and llama.cpp does not "
            "stop at it: a server would never end an answer"
        )
    n = 0
    for messages, tools in (*_hard_conversations(tokenizer, vocabulary, template), *_conversations_of(rows)):
        text = render_with(tokenizer, template, messages, add_generation_prompt=True, tools=tools)
        ours = tokenizer(text, add_special_tokens=False)["input_ids"]
        theirs = vocabulary.prompt_tokens(messages, tools=tools)
        if ours != theirs:
            raise ModelError(_difference(tokenizer, vocabulary, address, ours, theirs, text))
        n += 1
    return n


Conversation = tuple[Sequence[Message], Sequence[Mapping[str, Any]] | None]


def _conversations_of(rows: Iterable[Row]) -> Iterator[Conversation]:
    return ((messages, row.tools) for row in rows for messages in prompts_of(row))


def _hard_conversations(
    tokenizer: PreTrainedTokenizerBase, vocabulary: GgufVocabulary, template: str
) -> Iterator[Conversation]:
    """Conversations of hard texts that the template accepts: one question, two, and one with a system message."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special_tokens(tokenizer)}
    spelled = "x".join(token for token, number in ids.items() if number < vocabulary.n_vocab)
    for text in (*HARD_TEXTS, f"a{spelled}b"):
        user, assistant = Message(role="user", content=text), Message(role="assistant", content=text.strip() or "Yes")
        for messages in ([user], [user, assistant, user], [Message(role="system", content=text), user]):
            try:
                render_with(tokenizer, template, messages, add_generation_prompt=True)
            except ModelError:
                continue
            yield messages, None


def _difference(
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: GgufVocabulary,
    address: str,
    ours: Sequence[int],
    theirs: Sequence[int],
    text: str,
) -> str:
    at = common_length(ours, theirs)
    shown = slice(max(at - _BEFORE, 0), at + _AFTER)
    return (
        f"{address}: training and llama.cpp tokenize a prompt differently, so the file would answer another question: "
        f"from token {at} on {tokenizer.convert_ids_to_tokens(list(ours[shown]))} in training and "
        f"{[vocabulary.spelled(token) for token in theirs[shown]]} in the file, of {text[:200]!r}; use another base "
        "model, or report the base to Lorry: its tokenizer cannot be written as GGUF yet"
    )
