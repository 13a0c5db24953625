"""Special tokens, token ids, and the rules of tokenizer.json, on tokenizers of three letters."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from components.modeling.tokenizer import (
    continuation_ids,
    ids_of,
    normalizer_rules,
    pre_tokenizer_rules,
    prepend_scheme,
    rules_document,
    special_tokens,
)

METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
PREPEND = {"type": "Prepend", "prepend": "▁"}
NFC = {"type": "NFC"}
SPLIT = {"type": "Split", "pattern": {"Regex": "x"}}


def document(normalizer: Any = None, pre_tokenizer: Any = None, **model: Any) -> dict[str, Any]:
    return {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": model}


def sequence(key: str, *rules: Any) -> dict[str, Any]:
    return {"type": "Sequence", key: list(rules)}


@pytest.mark.parametrize(
    ("rule", "several", "expected"),
    [
        (None, None, []),
        (NFC, None, [NFC]),
        (None, [NFC, PREPEND], [NFC, PREPEND]),
        (None, [], []),
    ],
)
def test_rules_are_a_list_whether_there_is_one_a_sequence_or_none(rule, several, expected):
    normalizer = rule if several is None else sequence("normalizers", *several)
    splitting = rule if several is None else sequence("pretokenizers", *several)
    assert normalizer_rules(document(normalizer)) == expected
    assert pre_tokenizer_rules(document(pre_tokenizer=splitting)) == expected
    assert normalizer_rules({}) == []


@pytest.mark.parametrize(
    ("rules", "scheme"),
    [
        (document(), None),
        (document(NFC, SPLIT), None),
        (document(byte_fallback=True), "never"),
        (document(PREPEND), "always"),
        (document(sequence("normalizers", PREPEND, {"type": "Replace"})), "always"),
        (document(None, METASPACE), "first"),
        (document(None, {**METASPACE, "prepend_scheme": "always"}), "always"),
        (document(None, sequence("pretokenizers", SPLIT, {**METASPACE, "prepend_scheme": "never"})), "never"),
        (document(PREPEND, METASPACE), "always"),
    ],
)
def test_the_scheme_of_sentencepieces_space_follows_from_the_rules(rules, scheme):
    assert prepend_scheme(rules) == scheme


VOCABULARY = {letter: i for i, letter in enumerate(["<unk>", "▁", "a", "b", "c", "<end>", "<|end|>", "x"])}


def tokenizer(normalizer: Any = None, pre_tokenizer: Any = None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[], unk_token="<unk>"))
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    made = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<end>")
    made.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    return made


A, B, SPACE = VOCABULARY["a"], VOCABULARY["b"], VOCABULARY["▁"]
LLAMA = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
KINDS = {
    "prepend": lambda: tokenizer(LLAMA),
    "prepend alone": lambda: tokenizer(normalizers.Prepend("▁")),
    "metaspace": lambda: tokenizer(None, pre_tokenizers.Metaspace(prepend_scheme="first")),
    "metaspace in a sequence": lambda: tokenizer(
        None, pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always")])
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_begins_with_sentencepieces_space_and_its_continuation_does_not(kind):
    made = KINDS[kind]()
    assert ids_of(made, "ab") == [SPACE, A, B]
    assert continuation_ids(made, "ab") == [A, B]
    assert ids_of(made, "ab") == [SPACE, A, B], "the tokenizer itself is not changed"


def test_a_continuation_keeps_its_own_spaces():
    assert continuation_ids(tokenizer(LLAMA), " a b") == [SPACE, A, SPACE, B]


def test_a_tokenizer_without_that_space_continues_as_it_begins():
    assert ids_of(tokenizer(), "ab") == continuation_ids(tokenizer(), "ab") == [A, B]


def test_special_tokens_are_read_from_the_text_and_none_is_added():
    assert ids_of(tokenizer(), "a<end>b<|end|>") == [A, VOCABULARY["<end>"], B, VOCABULARY["<|end|>"]]


def test_special_tokens_are_the_longest_first_so_that_none_hides_another():
    made = tokenizer()
    made.add_tokens(["plain"])
    tokens = special_tokens(made)
    assert set(tokens) == {"<unk>", "<end>", "<|end|>"}
    assert [len(token) for token in tokens] == sorted(map(len, tokens), reverse=True)


def test_the_document_is_that_of_tokenizer_json():
    rules = rules_document(tokenizer(LLAMA))
    assert [rule["type"] for rule in normalizer_rules(rules)] == ["Prepend", "Replace"]
    assert {token["content"] for token in rules["added_tokens"]} >= {"<end>", "<|end|>"}
