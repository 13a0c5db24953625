"""Requests for text completions."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.artifacts.contracts import MAX_TOKENS
from components.errors import LorryError
from components.model_server.engine.interface import Request
from components.model_server.http.protocol.base import MAX_CHARACTERS
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


def test_max_tokens_of_a_text_are_16_or_unlimited():
    assert [text_asked(prompt="a", **limit).max_tokens for limit in ({}, {"max_tokens": None})] == [16, 16]
    assert text_asked(prompt="a", max_tokens=-1).max_tokens == MAX_TOKENS


def test_no_tokens_go_only_with_an_echo():
    assert text_asked(prompt="a", max_tokens=0, echo=True, logprobs=2).max_tokens == 0
    with pytest.raises(LorryError, match="max_tokens: 0 goes only with echo; give at least 1"):
        text_asked(prompt="a", max_tokens=0)
    with pytest.raises(ValidationError, match="suffix: text cannot be inserted before a suffix"):
        text_asked(prompt="a", suffix="b")


def test_an_empty_list_is_an_empty_text_and_a_long_prompt_is_refused():
    assert text_asked(prompt=[]).prompt == ""
    for long in ("x" * (MAX_CHARACTERS + 1), [1] * (MAX_CHARACTERS + 1)):
        with pytest.raises(ValidationError, match=f"is longer than {MAX_CHARACTERS}"):
            text_asked(prompt=long)


def test_the_fields_of_a_text_reach_the_engine():
    request = text_asked(prompt="a", logprobs=0, stop="x", seed=3, temperature=0.5)
    assert (request.top_logprobs, request.echo, request.stop) == (0, False, ["x"])
    assert (request.sampling.seed, request.sampling.temperature) == (3, 0.5)
    assert request.is_text
    assert text_asked(prompt="a").top_logprobs is None


@pytest.mark.parametrize(
    "fields", [{"best_of": 2}, {"n": 2}, {"logprobs": 21}, {"messages": [1]}, {"tools": [{}]}], ids=str
)
def test_what_a_text_cannot_have_is_refused(fields):
    with pytest.raises(ValidationError, match=next(iter(fields))):
        text_asked(prompt="a", **fields)
