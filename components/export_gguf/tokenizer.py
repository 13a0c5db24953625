"""The base's own tokenizer files beside the merged weights, and what llama.cpp must be told to read text as they do.

A tokenizer that a library writes anew is another tokenizer: the converter takes SentencePiece's pieces from
``tokenizer.model`` and the kinds of special tokens from ``tokenizer_config.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, Message
from components.modeling.base_model import copy_tokenizer_files
from components.modeling.chat_template import render_with, template_of
from components.modeling.supervision import end_of_turn, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG_NAME = "tokenizer_config.json"
TEMPLATE_NAME = "chat_template.jinja"
RULES_NAME = "lorry-gguf.json"
UNICODE_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD")


@dataclass(frozen=True)
class Rules:
    """How a tokenizer reads text, in llama.cpp's terms.

    ``add_space_prefix``: SentencePiece's space is put before every part of a text (None: it is not of that kind).
    ``normalizer``: the Unicode normalization. ``strips_right``: special tokens swallow white space behind them.
    ``eot_token_id``: what ends an answer.
    """

    add_space_prefix: bool | None
    normalizer: str | None
    strips_right: bool
    eot_token_id: int


def write_tokenizer(base_model: BaseModelRef, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the base's own tokenizer files into ``folder``, with the chat template and the rules for the converter."""
    copy_tokenizer_files(base_model, folder)
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    template = template_of(tokenizer, base_model.address)
    _complete_config(folder / CONFIG_NAME, document)
    told = _leading_space(document, tokenizer, template) + template
    (folder / TEMPLATE_NAME).write_text(told, encoding="utf-8")
    rules = _rules(document, end_of_turn(tokenizer, template))
    (folder / RULES_NAME).write_text(json.dumps(asdict(rules)), encoding="utf-8")


def read_rules(folder: Path) -> Rules | None:
    """The rules that ``write_tokenizer`` wrote, or None."""
    path = folder / RULES_NAME
    return Rules(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _complete_config(path: Path, document: dict[str, Any]) -> None:
    """Give the converter the added tokens where only ``tokenizer.json`` has them; one template is in the folder."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config.pop("chat_template", None)
    if not config.get("added_tokens_decoder"):
        config["added_tokens_decoder"] = {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in document.get("added_tokens", [])
        }
    path.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")


def _parts(rule: dict[str, Any] | None, several: str) -> list[dict[str, Any]]:
    """The rules of a sequence of rules, or the one rule."""
    if not rule:
        return []
    parts: list[dict[str, Any]] = rule.get(several, [rule])
    return parts


def _prepend_scheme(document: dict[str, Any]) -> str | None:
    """Where SentencePiece's space is put: ``never``, ``first`` (at the beginning of the text), ``always``."""
    if any(rule["type"] == "Prepend" for rule in _parts(document.get("normalizer"), "normalizers")):
        return "always"
    for rule in _parts(document.get("pre_tokenizer"), "pretokenizers"):
        if rule["type"] == "Metaspace":
            return str(rule["prepend_scheme"])
    return "never" if document["model"].get("byte_fallback") else None


def _leading_space(document: dict[str, Any], tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """What the template begins with in the file: a space, where the tokenizer puts one at the beginning alone.

    llama.cpp puts it before every part of a text or before none. Before a special token there is none.
    """
    if _prepend_scheme(document) != "first":
        return ""
    text = render_with(tokenizer, template, [Message(role="user", content="Hi")], add_generation_prompt=True)
    return "" if text.startswith((" ", *special_tokens(tokenizer))) else "{{ ' ' }}"


def _rules(document: dict[str, Any], eot_token_id: int) -> Rules:
    scheme = _prepend_scheme(document)
    normalizers = [rule["type"] for rule in _parts(document.get("normalizer"), "normalizers")]
    return Rules(
        add_space_prefix=None if scheme is None else scheme == "always",
        normalizer=next((name for name in normalizers if name in UNICODE_NORMALIZERS), None),
        strips_right=any(token["special"] and token["rstrip"] for token in document.get("added_tokens", [])),
        eot_token_id=eot_token_id,
    )
