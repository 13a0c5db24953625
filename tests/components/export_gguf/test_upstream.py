"""The changes to llama.cpp's converter: unknown tokenizers, names with an effect, and metadata."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from components.export_gguf.upstream import (
    LLAMA3_SPLIT,
    QWEN2_SPLIT,
    _patch_metadata,
    _patch_pre_tokenizer,
    gguf_name,
    pre_tokenizer_of,
)
from components.gguf.vocabulary import NORMALIZER_KEY

ABOUT = {"name": "my-model", "description": "a fine-tune", "license": "mit", "base_name": "base", "base_url": None}
RULES = {"add_space_prefix": None, "normalizer": None, "strips_right": False, "eot_token_id": 7}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}}


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ({"type": "Sequence", "pretokenizers": [split(LLAMA3_SPLIT), {"type": "ByteLevel"}]}, "llama-bpe"),
        ({"type": "Sequence", "pretokenizers": [split(QWEN2_SPLIT), {"type": "ByteLevel"}]}, "qwen2"),
        ({"type": "ByteLevel", "use_regex": True}, "gpt-2"),
        ({"type": "ByteLevel"}, "gpt-2"),
        ({"type": "ByteLevel", "use_regex": False}, None),
        (split("x"), None),
        ({"type": "Split", "pattern": {"String": " "}}, None),
        (None, None),
    ],
)
def test_the_pre_tokenizer_follows_from_its_rules(rules, name):
    assert pre_tokenizer_of(json.dumps({"pre_tokenizer": rules})) == name


@pytest.mark.parametrize(
    ("name", "strips_right", "written"),
    [
        ("my-model", False, "my-model"),
        ("my-model", True, "my-model (Phi-3)"),
        ("Phi-3-mini", True, "Phi-3-mini"),
        ("tiny-phi3", True, "tiny-phi3"),
        ("Phi-3-mini", False, "Phi 3-mini"),
        ("tiny-phi3", False, "tiny-phi 3"),
        ("Modern-BERT-base", False, "Modern BERT-base"),
        ("phi-2", False, "phi-2"),
    ],
)
def test_a_name_has_the_effect_that_the_tokenizer_needs_and_no_other(name, strips_right, written):
    found = gguf_name(name, strips_right=strips_right)
    assert found == written
    assert ("phi-3" in found.lower() or "phi3" in found.lower()) is strips_right


def recognising(name: str | None, rules: Any) -> str:
    """What the patched converter calls a pre-tokenizer; upstream knows it as ``name``, or not."""

    class TextModel:
        def get_vocab_base_pre(self, tokenizer: Any) -> str:
            if name is None:
                raise NotImplementedError("unknown pre-tokenizer")
            return name

    _patch_pre_tokenizer(TextModel)
    backend = SimpleNamespace(to_str=lambda: json.dumps({"pre_tokenizer": rules}))
    return TextModel().get_vocab_base_pre(SimpleNamespace(backend_tokenizer=backend))


def test_upstreams_name_counts_and_the_rules_name_what_it_does_not_know():
    assert recognising("smollm", split(LLAMA3_SPLIT)) == "smollm"
    assert recognising(None, split(LLAMA3_SPLIT)) == "llama-bpe"
    with pytest.raises(NotImplementedError):
        recognising(None, split("x"))


def written(rules: dict[str, Any] | None = None, about: Any = None, **before: Any) -> dict[str, Any]:
    """The keys that a patched writer has when it writes its header; ``before`` are those of the converter."""

    class Writer:
        def __init__(self) -> None:
            self.kv_data = [{name.replace("__", "."): SimpleNamespace(value=value) for name, value in before.items()}]
            self.written: dict[str, Any] = {}

        def _add(self, key: str, value: Any) -> None:
            self.kv_data[0][key] = SimpleNamespace(value=value)

        def add_name(self, name: str) -> None:
            self._add("general.name", name)

        def add_string(self, key: str, value: str) -> None:
            self._add(key, value)

        def add_base_model_count(self, n: int) -> None:
            self._add("general.base_model.count", n)

        def add_base_model_name(self, index: int, name: str) -> None:
            self._add(f"general.base_model.{index}.name", name)

        def add_base_model_repo_url(self, index: int, url: str) -> None:
            self._add(f"general.base_model.{index}.repo_url", url)

        def add_add_space_prefix(self, value: bool) -> None:
            self._add("tokenizer.ggml.add_space_prefix", value)

        def add_eot_token_id(self, token: int) -> None:
            self._add("tokenizer.ggml.eot_token_id", token)

        def write_header_to_file(self, path: Any = None) -> None:
            self.written = {key: entry.value for key, entry in self.kv_data[0].items()}

    _patch_metadata(Writer, rules, {**ABOUT, **(about or {})})
    writer = Writer()
    writer.write_header_to_file("path")
    return writer.written


def test_the_file_says_what_it_is_and_not_what_the_converter_guessed():
    keys = written(
        general__finetune="guess", general__basename="guess", general__base_model__0__name="guess", llama__context=8
    )
    assert keys == {
        "llama.context": 8,
        "general.name": "my-model",
        "general.description": "a fine-tune",
        "general.license": "mit",
        "general.base_model.count": 1,
        "general.base_model.0.name": "base",
    }


def test_a_base_on_the_hub_has_its_address_and_what_is_unknown_is_left_out():
    keys = written(about={"base_url": "https://huggingface.co/org/base", "license": None, "description": None})
    assert keys["general.base_model.0.repo_url"] == "https://huggingface.co/org/base"
    assert "general.license" not in keys
    assert "general.description" not in keys
    assert not any("base_model" in key for key in written(about={"base_name": None}))


def test_the_rules_of_the_tokenizer_are_written_where_they_differ():
    keys = written({**RULES, "add_space_prefix": False, "normalizer": "NFC"}, tokenizer__ggml__eos_token_id=2)
    assert keys["tokenizer.ggml.add_space_prefix"] is False
    assert keys[NORMALIZER_KEY] == "NFC"
    assert keys["tokenizer.ggml.eot_token_id"] == 7
    plain = written(RULES, tokenizer__ggml__eos_token_id=7)
    assert not {"tokenizer.ggml.add_space_prefix", NORMALIZER_KEY, "tokenizer.ggml.eot_token_id"} & plain.keys()
    assert written(RULES)["tokenizer.ggml.eot_token_id"] == 7, "there is no end of text at all"


def test_special_tokens_that_swallow_white_space_change_the_name():
    assert written({**RULES, "strips_right": True})["general.name"] == "my-model (Phi-3)"
    assert written(None)["general.name"] == "my-model"
