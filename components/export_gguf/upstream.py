"""llama.cpp's own converter, run as it is but for one gap: tokenizers that it has not met.

Upstream knows a pre-tokenizer by hashing what one text becomes under a vocabulary, so any new or extended
vocabulary is unknown to it. What llama.cpp needs to know is how text is split into words, and that stands
in the tokenizer's own rules.

Run as ``python -m components.export_gguf.upstream LLAMA_CPP_FOLDER ARGUMENTS-OF-THE-CONVERTER``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

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


def main() -> None:
    """Convert."""
    folder, *arguments = sys.argv[1:]
    sys.path.insert(0, folder)
    sys.argv = ["convert_hf_to_gguf.py", *arguments]
    import convert_hf_to_gguf
    from conversion.base import TextModel

    _teach(TextModel)
    convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
