"""JSON that follows a client's schema. A schema is hostile: llguidance takes it or says no, and bounds its own work."""

from __future__ import annotations

import json
import warnings
from typing import Any

from components.errors import LorryError

ANY_OBJECT: dict[str, Any] = {"type": "object"}
MAX_BYTES = 16_384


class SchemaError(LorryError):
    """The schema is too large, or says something that cannot be followed."""


def to_text(schema: dict[str, Any]) -> str:
    """The schema as JSON.

    Raises:
        SchemaError: it is too long, or no text.
    """
    try:
        n_bytes = len((text := json.dumps(schema, ensure_ascii=False)).encode())
    except UnicodeEncodeError as error:
        raise SchemaError(f"response_format: the schema holds half a character ({error.reason}); mend it") from error
    if n_bytes > MAX_BYTES:
        raise SchemaError(f"response_format: the schema has {n_bytes} bytes, more than {MAX_BYTES}; shorten it")
    return text


class JsonFollower:
    """Makes matchers for one vocabulary; a matcher says which token may come next."""

    def __init__(self, vocab: Any) -> None:
        """``vocab`` is llama.cpp's; takes about a second for 128,000 tokens."""
        import llama_cpp
        from llguidance.llamacpp import lltokenizer_from_vocab

        n_tokens = llama_cpp.llama_vocab_n_tokens(vocab)
        ends = [token for token in range(n_tokens) if llama_cpp.llama_vocab_is_eog(vocab, token)]
        with warnings.catch_warnings():
            # llguidance asks for a token's attributes by a name that llama-cpp-python will give up.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._tokenizer = lltokenizer_from_vocab(vocab, eos_token=ends)

    def matcher(self, schema: str) -> Any:
        """A matcher at the beginning of a text that follows ``schema``.

        Raises:
            SchemaError: it cannot be followed.
        """
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(schema)
        except ValueError as error:
            raise SchemaError(
                f"response_format: the schema cannot be followed ({_line(error)}); simplify it"
            ) from error
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise SchemaError(
                f"response_format: the schema cannot be followed ({_line(matcher.get_error())}); simplify it"
            )
        return matcher


def _line(said: object) -> str:
    return " ".join(str(said).split())[:300]
