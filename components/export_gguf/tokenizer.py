"""The base's own tokenizer files beside the merged weights, and the settings by which llama.cpp tokenizes as they do.

A tokenizer that a library saves again is another tokenizer: the converter takes SentencePiece's pieces from
``tokenizer.model`` and the kinds of special tokens from ``tokenizer_config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, Message
from components.modeling.base_model import copy_tokenizer_files
from components.modeling.chat_template import render_with, template_of
from components.modeling.supervision import end_of_turn
from components.modeling.tokenizer import normalizer_rules, prepend_scheme, rules_document, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG_NAME = "tokenizer_config.json"
TEMPLATE_NAME = "chat_template.jinja"
RULES_NAME = "lorry-gguf.json"
UNICODE_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD")


@dataclass(frozen=True)
class TokenizerRules:
    """How a tokenizer reads text, as settings of llama.cpp.

    ``add_space_prefix``: SentencePiece's space is prepended to every part of a text (None: it is of another kind).
    ``normalizer``: the Unicode normalization. ``strips_right``: special tokens swallow white space after them.
    ``eot_token_id``: the token that ends an answer.
    """

    add_space_prefix: bool | None
    normalizer: str | None
    strips_right: bool
    eot_token_id: int


def write_tokenizer(base_model: BaseModelRef, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the base's tokenizer files, the chat template and the rules for the converter into ``folder``."""
    copy_tokenizer_files(base_model, folder)
    document = rules_document(tokenizer)
    template = template_of(tokenizer, base_model.address)
    _complete_config(folder / CONFIG_NAME, document)
    text = _leading_space(document, tokenizer, template) + template
    (folder / TEMPLATE_NAME).write_text(text, encoding="utf-8")
    rules = _rules(document, end_of_turn(tokenizer, template))
    (folder / RULES_NAME).write_text(json.dumps(asdict(rules)), encoding="utf-8")


def read_rules(folder: Path) -> TokenizerRules | None:
    """The rules that ``write_tokenizer`` wrote, or None."""
    path = folder / RULES_NAME
    return TokenizerRules(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _complete_config(path: Path, document: Mapping[str, Any]) -> None:
    """Add the added tokens where only ``tokenizer.json`` has them, and remove the template, which has its own file."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config.pop("chat_template", None)
    if not config.get("added_tokens_decoder"):
        config["added_tokens_decoder"] = {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in document.get("added_tokens", [])
        }
    path.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")


def _leading_space(document: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The beginning of the template in the file: a space where the tokenizer prepends one to the whole text only.

    llama.cpp prepends it to every part of a text or to none. Before a special token there is none.
    """
    if prepend_scheme(document) != "first":
        return ""
    text = render_with(tokenizer, template, [Message(role="user", content="Hi")], add_generation_prompt=True)
    return "" if text.startswith((" ", *special_tokens(tokenizer))) else "{{ ' ' }}"


def _rules(document: Mapping[str, Any], eot_token_id: int) -> TokenizerRules:
    scheme = prepend_scheme(document)
    normalizers = [rule["type"] for rule in normalizer_rules(document)]
    return TokenizerRules(
        add_space_prefix=None if scheme is None else scheme == "always",
        normalizer=next((name for name in normalizers if name in UNICODE_NORMALIZERS), None),
        strips_right=any(token["special"] and token["rstrip"] for token in document.get("added_tokens", [])),
        eot_token_id=eot_token_id,
    )
