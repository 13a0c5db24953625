"""Guided decoding: which tokens are allowed next where an answer must follow a grammar, by llguidance."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from components.model_server.guided_decoding.json_schema import SchemaError, as_followed
from components.model_server.guided_decoding.lark import lark_string

if TYPE_CHECKING:
    from components.gguf.vocabulary import GgufVocabulary


class Grammars:
    """Makes matchers for one model's vocabulary; a matcher says which tokens are allowed next."""

    def __init__(self, model: GgufVocabulary) -> None:
        """Takes about a second for 128,000 tokens."""
        from llguidance.llamacpp import lltokenizer_from_vocab

        self._model = model
        ends = [token for token in range(model.n_vocab) if model.is_end(token)]
        with warnings.catch_warnings():
            # llguidance reads a token's attributes by a name that llama-cpp-python has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._tokenizer = lltokenizer_from_vocab(model.vocab, eos_token=ends)
        # Tokens of an answer's text that no text of a grammar matches, such as <think> where it is a token of its own.
        self._apart = [
            token
            for token in range(model.n_vocab)
            if self._is_special(token) and token not in ends and model.piece(token)
        ]

    def _is_special(self, token: int) -> bool:
        return bool(self._tokenizer.is_special_token(token))

    def terms(self, text: str) -> str:
        """A text as terms of a Lark grammar: strings, and special tokens by their number."""
        terms = []
        for token in self._model.tokenize(text, special=True):
            if self._is_special(token):
                before, _, text = text.partition(self._model.spelled(token))
                terms += [lark_string(before), f"<[{token}]>"] if before else [f"<[{token}]>"]
        return " ".join([*terms, lark_string(text)] if text else terms)

    def other_tokens(self, *texts: str) -> str:
        """A term for any token of a text that its strings do not match, but for those in ``texts``; empty: none is."""
        left_out = {token for text in texts for token in self._model.tokenize(text, special=True)}
        others = [str(token) for token in self._apart if token not in left_out]
        return f"<[{','.join(others)}]>" if others else ""

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
            raise SchemaError(field, f"the schema cannot be followed ({why}); simplify it")
        return matcher
