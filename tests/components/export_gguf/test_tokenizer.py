"""The tokenizer's files beside merged weights, and its rules in llama.cpp's terms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef
from components.export_gguf.tokenizer import (
    CONFIG_NAME,
    RULES_NAME,
    TEMPLATE_NAME,
    TokenizerRules,
    _complete_config,
    _leading_space,
    _rules,
    read_rules,
    write_tokenizer,
)
from components.modeling.base_model import load_tokenizer
from components.modeling.chat_template import template_of

METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}


def document(normalizer: Any = None, pre_tokenizer: Any = None, tokens: Any = (), **model: Any) -> dict[str, Any]:
    return {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "added_tokens": list(tokens), "model": model}


def token(content: str, number: int, *, special: bool = True, rstrip: bool = False) -> dict[str, Any]:
    return {"id": number, "content": content, "special": special, "rstrip": rstrip, "lstrip": False}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (document(), TokenizerRules(None, None, False, 7)),
        (document({"type": "NFC"}), TokenizerRules(None, "NFC", False, 7)),
        (document({"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFKC"}]}),
         TokenizerRules(None, "NFKC", False, 7)),
        (document({"type": "Prepend", "prepend": "▁"}), TokenizerRules(True, None, False, 7)),
        (document(None, METASPACE), TokenizerRules(False, None, False, 7)),
        (document(byte_fallback=True), TokenizerRules(False, None, False, 7)),
        (document(tokens=[token("<a>", 0), token("<b>", 1, rstrip=True)]), TokenizerRules(None, None, True, 7)),
        (document(tokens=[token("x", 0, special=False, rstrip=True)]), TokenizerRules(None, None, False, 7)),
    ],
)  # fmt: skip
def test_rules_follow_from_tokenizer_json(rules, expected):
    assert _rules(rules, 7) == expected


def test_rules_are_read_as_they_were_written(tmp_path):
    assert read_rules(tmp_path) is None
    rules = TokenizerRules(add_space_prefix=True, normalizer="NFC", strips_right=True, eot_token_id=3)
    (tmp_path / RULES_NAME).write_text(json.dumps(vars(rules)))
    assert read_rules(tmp_path) == rules


def test_added_tokens_are_completed_only_where_the_config_has_none(tmp_path):
    path = tmp_path / CONFIG_NAME
    rules = document(tokens=[token("<a>", 5)])
    _complete_config(path, rules)
    assert json.loads(path.read_text()) == {
        "added_tokens_decoder": {"5": {"content": "<a>", "special": True, "rstrip": False, "lstrip": False}}
    }
    own = {"added_tokens_decoder": {"1": {"content": "<own>"}}, "chat_template": "two templates", "clean": True}
    path.write_text(json.dumps(own))
    _complete_config(path, rules)
    assert json.loads(path.read_text()) == {"added_tokens_decoder": own["added_tokens_decoder"], "clean": True}


@pytest.fixture(scope="module")
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision="", weight_bytes=0)


@pytest.mark.parametrize(
    ("scheme", "template", "leading"),
    [
        ("first", "{{ messages[0].content }}", "{{ ' ' }}"),
        ("first", " {{ messages[0].content }}", ""),
        ("first", "<|eot_id|>{{ messages[0].content }}", ""),
        ("always", "{{ messages[0].content }}", ""),
        ("never", "{{ messages[0].content }}", ""),
    ],
)
def test_a_space_before_the_whole_text_becomes_part_of_the_template(base, scheme, template, leading):
    rules = document(None, {**METASPACE, "prepend_scheme": scheme})
    assert _leading_space(rules, load_tokenizer(base), template) == leading


def test_the_bases_own_files_are_copied_with_one_template_and_the_rules(tiny_base, tmp_path):
    source = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (source / "tokenizer.model").write_bytes(b"pieces")
    base = BaseModelRef(address=str(source), revision="", weight_bytes=0)
    tokenizer = load_tokenizer(base)
    target = tmp_path / "merged"
    target.mkdir()
    (target / "config.json").write_text("of the merged weights")
    write_tokenizer(base, tokenizer, target)
    assert (target / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert (target / "tokenizer.model").read_bytes() == b"pieces"
    assert (target / TEMPLATE_NAME).read_text() == template_of(tokenizer, "")
    assert "chat_template" not in json.loads((target / CONFIG_NAME).read_text())
    assert (target / "config.json").read_text() == "of the merged weights"
    assert read_rules(target) == TokenizerRules(None, None, False, tokenizer.convert_tokens_to_ids("<|eot_id|>"))
