"""The body of ``POST /v1/completions``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from components.artifacts.contracts import MAX_TOKENS
from components.errors import RequestError
from components.model_server.engine.interface import Request
from components.model_server.http.protocol.base import MAX_CHARACTERS, Text
from components.model_server.http.protocol.generation import (
    MAX_TOP_LOGPROBS,
    GenerationRequest,
    OneAnswer,
    unlimited,
)
from components.model_server.http.served_model import ServedModel


def _one_prompt(given: Any) -> Any:
    """The only prompt of a list: a text, or token ids."""
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        if len(given) > 1:
            raise ValueError("a request has one prompt here; send several requests, at once if you like")
        given = given[0]
    if given == []:
        return ""
    is_ids = isinstance(given, list) and all(type(token) is int and token >= 0 for token in given)
    if not is_ids and not isinstance(given, str):
        raise ValueError("is neither a text nor a list of token ids; give one of these")
    if len(given) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS}; shorten it")
    return given


# No union: its errors would name the branch, and not the field.
Prompt = Annotated[
    Any, BeforeValidator(_one_prompt, json_schema_input_type=Text | list[Text] | list[int] | list[list[int]])
]


class CompletionRequest(GenerationRequest):
    """One text to continue, or its token ids."""

    prompt: Prompt
    max_tokens: Annotated[Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None, BeforeValidator(unlimited)] = 16
    echo: bool | None = None
    best_of: OneAnswer | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    suffix: None = None

    def to_engine(self, key: str, served: ServedModel) -> Request:
        """The request as the engine takes it; ``max_tokens`` is 16 by default, as OpenAI's, whatever the model's is.

        Raises:
            RequestError: no tokens are wanted, and no echo.
        """
        if self.max_tokens == 0 and not self.echo:
            raise RequestError("max_tokens", "0 goes only with echo; give at least 1")
        return Request(
            prompt=self.prompt,
            sampling=self._sampling(served.generation),
            max_tokens=self.max_tokens,
            stop=self.stop or [],
            key=key,
            top_logprobs=self.logprobs,
            echo=bool(self.echo),
        )
