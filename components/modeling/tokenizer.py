"""A tokenizer's special tokens, the token ids of a text, and the rules of its ``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A rule of tokenizer.json: ``type``, and the settings of that type.
Rule = dict[str, Any]


@lru_cache(maxsize=4)
def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Every token that stands for no text of its own, longest first."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(sorted({*filter(None, tokenizer.all_special_tokens), *added}, key=len, reverse=True))


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The token ids of a whole text in which special tokens are spelled out."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def continuation_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The token ids of a text that continues another: SentencePiece's space is not prepended."""
    return list(_without_prepended_space(tokenizer).encode(text, add_special_tokens=False).ids)


@lru_cache(maxsize=4)
def _without_prepended_space(tokenizer: PreTrainedTokenizerBase) -> Any:
    from tokenizers import Tokenizer

    document = rules_document(tokenizer)
    normalizer = document.get("normalizer") or {}
    if "normalizers" in normalizer:
        normalizer["normalizers"] = [rule for rule in normalizer["normalizers"] if rule["type"] != "Prepend"]
    elif normalizer.get("type") == "Prepend":
        document["normalizer"] = None
    for rule in pre_tokenizer_rules(document):
        if rule.get("type") == "Metaspace":
            rule["prepend_scheme"] = "never"
    return Tokenizer.from_str(json.dumps(document))


def rules_document(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The content of the tokenizer's ``tokenizer.json``."""
    document: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return document


def normalizer_rules(document: Mapping[str, Any]) -> list[Rule]:
    """The rules of a ``tokenizer.json`` that change a text before it is split, in their order."""
    return _flat(document.get("normalizer"), "normalizers")


def pre_tokenizer_rules(document: Mapping[str, Any]) -> list[Rule]:
    """The rules of a ``tokenizer.json`` that split a text into words, in their order."""
    return _flat(document.get("pre_tokenizer"), "pretokenizers")


def _flat(rule: Rule | None, sequence_key: str) -> list[Rule]:
    """The rules of a sequence, the one rule, or none."""
    if not rule:
        return []
    rules: list[Rule] = rule.get(sequence_key, [rule])
    return rules


def prepend_scheme(document: Mapping[str, Any]) -> str | None:
    """Where SentencePiece's space is prepended: ``never``, ``first`` (to the text) or ``always`` (to each part of it).

    None: the tokenizer is of another kind.
    """
    if any(rule["type"] == "Prepend" for rule in normalizer_rules(document)):
        return "always"
    for rule in pre_tokenizer_rules(document):
        if rule["type"] == "Metaspace":
            return str(rule["prepend_scheme"])
    return "never" if document["model"].get("byte_fallback") else None
