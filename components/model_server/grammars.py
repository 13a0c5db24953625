"""Which token may come next, where an answer must follow a grammar: llguidance over the model's vocabulary."""

from __future__ import annotations

import warnings
from typing import Any

from components.model_server.json_schema import SchemaError, as_followed


class Grammars:
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

    def is_special(self, token: int) -> bool:
        """True for a token that no text of a grammar matches; it is named by its number there."""
        return bool(self._tokenizer.is_special_token(token))

    def of_schema(self, schema: str) -> Any:
        """A matcher at the beginning of a JSON text that follows ``schema``.

        Raises:
            SchemaError: it cannot be followed.
        """
        from llguidance import LLMatcher

        return self._matcher(LLMatcher.grammar_from_json_schema(as_followed(schema)), "response_format")

    def of_lark(self, grammar: str, field: str) -> Any:
        """A matcher at the beginning of a text of a Lark grammar, which ``field`` of a request has asked for.

        Raises:
            SchemaError: it cannot be followed.
        """
        from llguidance import LLMatcher

        return self._matcher(LLMatcher.grammar_from_lark(grammar), field)

    def _matcher(self, grammar: str, field: str) -> Any:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            why = " ".join(str(matcher.get_error()).split())[:300]
            raise SchemaError(f"{field}: the schema cannot be followed ({why}); simplify it")
        return matcher
