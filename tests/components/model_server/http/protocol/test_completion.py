"""Requests for text completions."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.artifacts.contracts import MAX_TOKENS
from components.errors import LorryError
from components.model_server.engine.interface import Request
from components.model_server.http.protocol.completion import CompletionRequest
from tests.components.model_server.http.protocol.asking import served


def text_asked(**fields: Any) -> Request:
    return CompletionRequest.model_validate({"model": "m", **fields}).to_engine("", served())


def test_a_prompt_is_a_text_or_token_ids_alone_or_in_a_list():
    assert text_asked(prompt="a").prompt == text_asked(prompt=["a"]).prompt == "a"
    assert text_asked(prompt=[1, 2]).prompt == text_asked(prompt=[[1, 2]]).prompt == [1, 2]
    for several in (["a", "b"], [[1], [2]]):
        with pytest.raises(ValidationError, match="a request has one prompt here; send several requests"):
            text_asked(prompt=several)
    for wrong in (5, {"a": 1}, [1, "a"], [-1], [True]):
        with pytest.raises(ValidationError, match="is neither a text nor a list of token ids"):
            text_asked(prompt=wrong)


def test_a_text_is_as_long_as_it_says_as_the_context_or_16_tokens():
    assert [text_asked(prompt="a", **limit).max_tokens for limit in ({}, {"max_tokens": None})] == [16, 16]
    assert text_asked(prompt="a", max_tokens=-1).max_tokens == MAX_TOKENS


def test_no_tokens_go_only_with_an_echo():
    assert text_asked(prompt="a", max_tokens=0, echo=True, logprobs=2).max_tokens == 0
    with pytest.raises(LorryError, match="max_tokens: 0 goes only with echo; give at least 1"):
        text_asked(prompt="a", max_tokens=0)
    with pytest.raises(ValidationError, match="suffix: text cannot be inserted before a suffix"):
        text_asked(prompt="a", suffix="b")
