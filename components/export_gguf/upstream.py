"""llama.cpp's own converter, run as it is but for two gaps: tokenizers that it has not met, and what a file says.

Upstream knows a pre-tokenizer by hashing what one text becomes under a vocabulary, so any new or extended
vocabulary is unknown to it. What llama.cpp needs to know is how text is split into words, and that stands
in the tokenizer's own rules.

Run as ``python -m components.export_gguf.upstream LLAMA_CPP_FOLDER KEYS ARGUMENTS-OF-THE-CONVERTER``; ``KEYS`` is JSON:
``rules`` (see ``tokenizer.Rules``) and ``about`` (see ``convert.About``).
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

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
GGML_PRE_BY_SPLIT = {LLAMA3_SPLIT: "llama-bpe", QWEN2_SPLIT: "qwen2"}


def pre_tokenizer_of(tokenizer_json: str) -> str | None:
    """llama.cpp's name for the way a ``tokenizer.json`` splits text into words, or None when it is another way."""
    rules = json.loads(tokenizer_json).get("pre_tokenizer") or {}
    for rule in rules.get("pretokenizers", [rules]):
        if rule.get("type") == "Split":
            return GGML_PRE_BY_SPLIT.get(rule["pattern"].get("Regex", ""))
        if rule.get("type") == "ByteLevel" and rule.get("use_regex", True):
            return "gpt-2"
    return None


def _as_it_lies(folder: Any, **_: Any) -> Any:
    """The tokenizer that training used: classes of transformers 5 add rules and tokens of their own to it."""
    return load_tokenizer(BaseModelRef(address=str(Path(folder).absolute()), revision="", weight_bytes=0))


def _teach(text_model: type[Any]) -> None:
    recognise = text_model.get_vocab_base_pre

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return str(recognise(self, tokenizer))
        except NotImplementedError:
            name = pre_tokenizer_of(tokenizer.backend_tokenizer.to_str())
            if name is None:
                raise
            return name

    text_model.get_vocab_base_pre = get_vocab_base_pre


# llama.cpp reads no key that tells of white space which special tokens swallow: it goes by the name.
_STRIPS_RIGHT = ("phi-3", "phi3")
# Names by which it would change a vocabulary that is not meant.
_NAMES_WITH_MEANING = (*_STRIPS_RIGHT, "modern-bert")


def gguf_name(name: str, *, strips_right: bool) -> str:
    """The name in the file, of which llama.cpp makes more than a name."""
    has_meaning = any(part in name.lower() for part in _NAMES_WITH_MEANING)
    if strips_right:
        return name if any(part in name.lower() for part in _STRIPS_RIGHT) else f"{name} (Phi-3)"
    if not has_meaning:
        return name
    return re.sub(r"(?i)(phi)-?3", r"\1 3", re.sub(r"(?i)(modern)-(bert)", r"\1 \2", name))


def _write_keys(writer: type[Any], rules: dict[str, Any] | None, about: dict[str, Any]) -> None:
    """Set the keys that the converter guesses, or does not know, when it has set its own."""
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
    """Convert."""
    folder, keys, *arguments = sys.argv[1:]
    sys.path.insert(0, folder)
    sys.argv = ["convert_hf_to_gguf.py", *arguments]
    import convert_hf_to_gguf
    import gguf
    import transformers
    from conversion.base import TextModel

    _teach(TextModel)
    transformers.AutoTokenizer.from_pretrained = _as_it_lies
    _write_keys(gguf.GGUFWriter, **json.loads(keys))
    convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
