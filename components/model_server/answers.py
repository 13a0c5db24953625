"""Answers in OpenAI's words, whole or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import cached_property
from typing import Any, ClassVar

from components.chat_template import Edges
from components.errors import LorryError
from components.model_server.engine import Piece
from components.model_server.wire import Usage, WireError
from components.reasoning import PLAIN, ReasoningStream, Said, split_reasoning


class WireAnswer(ABC):
    """One answer; ``ended`` hears of its last piece."""

    id_prefix: ClassVar[str]
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(
        self, model_id: str, ended: Callable[[Piece], None], *, opened: bool = False, edges: Edges = PLAIN
    ) -> None:
        """``opened`` and ``edges``: see ``split_reasoning``."""
        self._opened, self._edges = opened, edges
        self._head = {"id": f"{self.id_prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model_id}
        self._ended = ended

    @abstractmethod
    def whole_choice(self, text: str) -> dict[str, Any]:
        """What a choice of the whole answer says beside its finish_reason."""

    @abstractmethod
    def chunk_choices(self, text: str) -> list[dict[str, Any]]:
        """What the choices of the chunks say that a piece of text becomes."""

    @abstractmethod
    def last_choices(self) -> list[dict[str, Any]]:
        """What was held back, and at the end the choice of the chunk with the finish_reason."""

    def opening(self) -> list[dict[str, Any]]:
        """Choices that come before the first piece."""
        return []

    async def whole(self, first: Piece, rest: AsyncGenerator[Piece]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        texts, last = [first.text], first
        async for piece in rest:
            texts.append(piece.text)
            last = piece
        self._ended(last)
        choice = {
            "index": 0,
            **self.whole_choice("".join(texts)),
            "logprobs": None,
            "finish_reason": last.finish_reason,
        }
        return {**self._head, "object": self.whole_object, "choices": [choice], "usage": _usage(last)}

    async def events(self, first: Piece, rest: AsyncGenerator[Piece], *, include_usage: bool) -> AsyncIterator[str]:
        """Server-sent events: the pieces, the finish reason, the counts when wanted, and [DONE]."""
        last = first
        # aclosing: when the client goes away this generator is closed, and with it the engine's.
        async with aclosing(_chain(first, rest)) as pieces:
            for choice in self.opening():
                yield self._chunk(choice)
            try:
                async for piece in pieces:
                    last = piece
                    if piece.text:
                        for choice in self.chunk_choices(piece.text):
                            yield self._chunk(choice)
            except LorryError as error:
                yield _event(WireError(message=str(error), type="server_error").body())
                yield "data: [DONE]\n\n"
                return
        self._ended(last)
        *held_back, end = self.last_choices()
        for choice in held_back:
            yield self._chunk(choice)
        yield self._chunk(end, last.finish_reason)
        if include_usage:
            yield _event({**self._head, "object": self.chunk_object, "choices": [], "usage": _usage(last)})
        yield "data: [DONE]\n\n"

    def _chunk(self, choice: dict[str, Any], finish_reason: str | None = None) -> str:
        choices = [{"index": 0, **choice, "logprobs": None, "finish_reason": finish_reason}]
        return _event({**self._head, "object": self.chunk_object, "choices": choices})


class ChatAnswer(WireAnswer):
    """An answer of ``/v1/chat/completions``."""

    id_prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def whole_choice(self, text: str) -> dict[str, Any]:
        """See ``WireAnswer``."""
        thoughts, content = split_reasoning(text, opened=self._opened, edges=self._edges)
        beside = {} if thoughts is None else {"reasoning_content": thoughts}
        return {"message": {"role": "assistant", "content": content, **beside, "refusal": None}}

    @cached_property
    def _reasoning(self) -> ReasoningStream:
        return ReasoningStream(opened=self._opened, edges=self._edges)

    def chunk_choices(self, text: str) -> list[dict[str, Any]]:
        """See ``WireAnswer``; thoughts have a field of their own, as vLLM's and llama-server's have."""
        return [_delta(said) for said in self._reasoning.feed(text)]

    def last_choices(self) -> list[dict[str, Any]]:
        """See ``WireAnswer``."""
        return [*map(_delta, self._reasoning.rest()), {"delta": {}}]

    def opening(self) -> list[dict[str, Any]]:
        """The role comes first."""
        return [{"delta": {"role": "assistant", "content": ""}}]


class TextAnswer(WireAnswer):
    """An answer of ``/v1/completions``."""

    id_prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"

    def whole_choice(self, text: str) -> dict[str, Any]:
        """See ``WireAnswer``."""
        return {"text": text}

    def chunk_choices(self, text: str) -> list[dict[str, Any]]:
        """See ``WireAnswer``."""
        return [{"text": text}]

    def last_choices(self) -> list[dict[str, Any]]:
        """See ``WireAnswer``."""
        return [{"text": ""}]


def _delta(said: Said) -> dict[str, Any]:
    return {"delta": {"reasoning_content" if said.is_reasoning else "content": said.text}}


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _chain(first: Piece, rest: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def _usage(last: Piece) -> dict[str, Any]:
    return Usage(
        prompt_tokens=last.prompt_tokens,
        completion_tokens=last.completion_tokens,
        total_tokens=last.prompt_tokens + last.completion_tokens,
        prompt_tokens_details={"cached_tokens": last.cached_tokens},
    ).model_dump()
