"""The tokens of a request's prompt: of a conversation, a text, or as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from components.artifacts.contracts import Message
from components.errors import RequestError
from components.model_server.engine.interface import Request
from components.model_server.engine.prompts import prompt_tokens, require_tokens

CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
USER, ASSISTANT = Message(role="user", content="Hi"), Message(role="assistant", content=" The sum is  ")


class Letters:
    """A vocabulary whose tokens are characters, with a template; it notes how it was asked."""

    n_vocab = 200

    def __init__(self, *, writes_calls: bool = True, writes_content: bool = True) -> None:
        self.writes_calls, self.writes_content = writes_calls, writes_content
        self.tokenized: dict[str, Any] = {}
        self.rendered: dict[str, Any] = {}

    def tokenize(self, text: str, *, special: bool, begin: bool = False) -> list[int]:
        self.tokenized = {"special": special, "begin": begin}
        return list(map(ord, text))

    def prompt(
        self,
        messages: Sequence[Message],
        *,
        tools: Any,
        template_kwargs: Mapping[str, Any],
        add_generation_prompt: bool,
    ) -> str:
        self.rendered = {"tools": tools, **template_kwargs}
        calls = [call["function"]["name"] for m in messages for call in m.tool_calls or () if self.writes_calls]
        content = "".join(f"{m.role}: {m.content.strip() if self.writes_content else ''}\n" for m in messages)
        return content + "".join(calls) + ("assistant: " if add_generation_prompt else "")


def text_of(model: Letters, request: Request) -> str:
    return "".join(map(chr, prompt_tokens(model, request)))  # type: ignore[arg-type]


def test_a_conversation_is_written_by_the_template_with_special_tokens():
    model = Letters()
    assert text_of(model, Request([USER], template_kwargs={"tone": "calm"})) == "user: Hi\nassistant: "
    assert model.tokenized == {"special": True, "begin": False}
    assert model.rendered == {"tools": None, "tone": "calm"}


def test_a_text_is_taken_as_text():
    model = Letters()
    assert text_of(model, Request("<|end|> as text")) == "<|end|> as text"
    assert model.tokenized == {"special": False, "begin": True}


def test_token_ids_are_taken_as_they_are_where_the_model_has_them():
    assert prompt_tokens(Letters(), Request([5, 0, 199])) == [5, 0, 199]  # type: ignore[arg-type]
    for token in (200, -1):
        with pytest.raises(RequestError, match=f"prompt: there is no token {token}; this model has 200"):
            prompt_tokens(Letters(), Request([5, token]))  # type: ignore[arg-type]


def test_an_answer_that_was_begun_ends_the_prompt_without_white_space_behind_it():
    begun = Request([USER, ASSISTANT], continues=True)
    assert text_of(Letters(), begun) == "user: Hi\nassistant: The sum is"
    with pytest.raises(RequestError, match="continue_final_message: the chat template does not write"):
        text_of(Letters(writes_content=False), begun)


def test_calls_of_tools_must_be_in_what_the_template_writes():
    request = Request([USER, Message(role="assistant", content="", tool_calls=[CALL]), USER])
    assert "add" in text_of(Letters(), request)
    with pytest.raises(RequestError, match=r"messages\.1\.tool_calls: .*'add'") as refused:
        text_of(Letters(writes_calls=False), request)
    assert "use a model" in str(refused.value)


def test_only_tokens_of_the_vocabulary_may_be_named():
    require_tokens(Letters(), [0, 199], "logit_bias")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="logit_bias: there is no token 777; this model has 200"):
        require_tokens(Letters(), [0, 777], "logit_bias")  # type: ignore[arg-type]
