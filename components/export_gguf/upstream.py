"""llama.cpp's own converter with two changes: it accepts unknown tokenizers, and writes Lorry's metadata.

Upstream identifies a pre-tokenizer by a hash of the tokens of one text, so that it knows no new or extended vocabulary.
llama.cpp needs to know how text is split into words, which the rules of ``tokenizer.json`` say.

Run as ``python -m components.export_gguf.upstream LLAMA_CPP_FOLDER KEYS ARGUMENTS-OF-THE-CONVERTER``; ``KEYS`` is JSON:
``rules`` (see ``tokenizer.TokenizerRules``) and ``about`` (see ``convert.About``).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef
from components.gguf.vocabulary import NORMALIZER_KEY
from components.modeling.base_model import load_tokenizer
from components.modeling.tokenizer import pre_tokenizer_rules

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
GGML_PRE_BY_SPLIT = {LLAMA3_SPLIT: "llama-bpe", QWEN2_SPLIT: "qwen2"}


def pre_tokenizer_of(tokenizer_json: str) -> str | None:
    """llama.cpp's name for the rules by which a ``tokenizer.json`` splits text into words, or None for other rules."""
    for rule in pre_tokenizer_rules(json.loads(tokenizer_json)):
        if rule.get("type") == "Split":
            return GGML_PRE_BY_SPLIT.get(rule["pattern"].get("Regex", ""))
        if rule.get("type") == "ByteLevel" and rule.get("use_regex", True):
            return "gpt-2"
    return None


def _load_base_tokenizer(folder: Any, **_: Any) -> Any:
    """The tokenizer of training; the classes of transformers 5 would add rules and tokens of their own."""
    return load_tokenizer(BaseModelRef(address=str(Path(folder).absolute()), revision="", weight_bytes=0))


def _patch_pre_tokenizer(text_model: type[Any]) -> None:
    original = text_model.get_vocab_base_pre

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return str(original(self, tokenizer))
        except NotImplementedError:
            name = pre_tokenizer_of(tokenizer.backend_tokenizer.to_str())
            if name is None:
                raise
            return name

    text_model.get_vocab_base_pre = get_vocab_base_pre


# No key says that special tokens swallow white space after them; llama.cpp decides it by the model's name.
_STRIPS_RIGHT = ("phi-3", "phi3")
# Names by which llama.cpp changes a vocabulary.
_NAMES_WITH_MEANING = (*_STRIPS_RIGHT, "modern-bert")


def gguf_name(name: str, *, strips_right: bool) -> str:
    """The model's name for the file, changed where llama.cpp would draw a wrong conclusion from it."""
    has_meaning = any(part in name.lower() for part in _NAMES_WITH_MEANING)
    if strips_right:
        return name if any(part in name.lower() for part in _STRIPS_RIGHT) else f"{name} (Phi-3)"
    if not has_meaning:
        return name
    return re.sub(r"(?i)(phi)-?3", r"\1 3", re.sub(r"(?i)(modern)-(bert)", r"\1 \2", name))


def _patch_metadata(writer: type[Any], rules: dict[str, Any] | None, about: dict[str, Any]) -> None:
    """Let the writer replace the metadata that the converter guesses, and add what it does not know."""
    write_header = writer.write_header_to_file

    def write_header_to_file(self: Any, path: Any = None) -> None:
        keys = self.kv_data[0]
        for name in [name for name in keys if name.startswith("general.base_model.")]:
            del keys[name]
        for name in ("general.finetune", "general.basename"):
            keys.pop(name, None)
        self.add_name(gguf_name(about["name"], strips_right=bool(rules and rules["strips_right"])))
        for key in ("description", "license"):
            if about[key]:
                self.add_string(f"general.{key}", about[key])
        if about["base_name"]:
            self.add_base_model_count(1)
            self.add_base_model_name(0, about["base_name"])
            if about["base_url"]:
                self.add_base_model_repo_url(0, about["base_url"])
        if rules is not None:
            _write_rules(self, rules)
        write_header(self, path)

    writer.write_header_to_file = write_header_to_file


def _write_rules(writer: Any, rules: dict[str, Any]) -> None:
    if rules["add_space_prefix"] is not None:
        writer.add_add_space_prefix(rules["add_space_prefix"])
    if rules["normalizer"] is not None:
        writer.add_string(NORMALIZER_KEY, rules["normalizer"])
    eos = writer.kv_data[0].get("tokenizer.ggml.eos_token_id")
    if eos is None or eos.value != rules["eot_token_id"]:
        writer.add_eot_token_id(rules["eot_token_id"])


def main() -> None:
    """Run the converter with both changes."""
    folder, keys, *arguments = sys.argv[1:]
    sys.path.insert(0, folder)
    sys.argv = ["convert_hf_to_gguf.py", *arguments]
    import convert_hf_to_gguf
    import gguf
    import transformers
    from conversion.base import TextModel

    _patch_pre_tokenizer(TextModel)
    transformers.AutoTokenizer.from_pretrained = _load_base_tokenizer
    _patch_metadata(gguf.GGUFWriter, **json.loads(keys))
    convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
