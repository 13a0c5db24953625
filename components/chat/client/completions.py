"""Asking an OpenAI-compatible server, and measuring how fast it answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

import aiohttp
import orjson

from components.artifacts.contracts import GenerationDefaults
from components.chat.client.servers import Refused, Server

# A busy server says when to come again; the page does that for its users, for so long in all.
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
STOPPED, BROKEN = "stopped", "broken"
BUSY = 429
# How servers say that a prompt is too long; few have OpenAI's code for it.
CONTEXT_FULL = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window|holds)"
    r"|maximum (input|prompt|sequence) length|(prompt|input) is too long|tokens.* must be <=",
    re.IGNORECASE | re.DOTALL,
)
ENDINGS = {
    "length": "cut at the length limit",
    STOPPED: "stopped",
    BROKEN: "broke off",
    "content_filter": "ended by the server's content filter",
    "tool_calls": "ended with a call of a tool, which this page has not",
}
NOTHING_CAME = {
    STOPPED: "Stopped before the first word.",
    BROKEN: "Broke off before the first word.",
    "content_filter": "The server's content filter let no answer through.",
    "tool_calls": "The model called a tool, which this page has not.",
}
# What the page's settings can say: a share of the words, and tokens of an answer.
LOWEST_TOP_P = 0.05
FEWEST_TOKENS, MOST_TOKENS = 16, 2048
Message = dict[str, str]


class ServerError(Exception):
    """The server cannot answer now; the words are for the person at the page."""


class NotServed(ServerError):
    """The server is not there or does not take this request: perhaps it does not serve this model any more."""


class ContextFull(ServerError):
    """What was sent does not fit into the model's context. ``of_answer``: the length asked for is a part of that."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.of_answer = re.search(r"max_(new_)?tokens|completion", words) is not None


@dataclass(frozen=True)
class Settings:
    """How to answer. ``max_tokens`` counts tokens of the answer; ``seed`` None is a new one each time."""

    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float = 1.0
    seed: int | None = None

    @classmethod
    def of(cls, generation: GenerationDefaults) -> Settings:
        """A model's own, as far as the page's settings reach; the page's where the model has none."""
        own = {
            **asdict(cls()),
            **generation.model_dump(include={"temperature", "top_p", "max_tokens"}, exclude_none=True),
        }
        own["top_p"] = max(LOWEST_TOP_P, own["top_p"])
        own["max_tokens"] = min(max(FEWEST_TOKENS, own["max_tokens"]), MOST_TOKENS)
        return cls(**own)


@dataclass(frozen=True)
class Answer:
    """An answer as far as it has come. Seconds count from the request; ``n_tokens`` is the server's at the end.

    ``finish_reason`` is the server's, or ``stopped`` by the user, or ``broken`` off; ``trouble`` is the server's word
    for why. ``busy_seconds`` is how long the page waits before it asks a busy server again. ``thoughts`` are what a
    model wrote before its answer, where the server tells them apart.
    """

    text: str = ""
    n_tokens: int = 0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    finish_reason: str | None = None
    busy_seconds: float | None = None
    thoughts: str = ""
    trouble: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens after the first one over the time they took, or None before there are two."""
        if self.first_token_seconds is None or self.n_tokens < 2:
            return None
        return (self.n_tokens - 1) / max(self.seconds - self.first_token_seconds, 1e-9)

    @property
    def can_go_on(self) -> bool:
        """True where the model had more to say."""
        return bool(self.text) and self.finish_reason in ("length", STOPPED, BROKEN)

    def in_words(self) -> str:
        """One line for below the answer."""
        if self.busy_seconds is not None:
            return f"The model server is busy; asking again in {self.busy_seconds:.0f} s…"
        if self.first_token_seconds is None:
            if self.finish_reason is None:
                return f"Reading your prompt… {self.seconds:.0f} s"
            return NOTHING_CAME.get(self.finish_reason, "The model had nothing to say.") + self._why
        parts = [f"{self.n_tokens} token{'' if self.n_tokens == 1 else 's'}"]
        if not self.text and self.finish_reason is None:
            parts.insert(0, "Thinking…")
        elif not self.text:
            parts.insert(0, "The model only thought, and gave no answer")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        parts.append(f"first token after {self.first_token_seconds:.2f} s")
        parts.append(f"{self.seconds:.1f} s in all")
        if self.finish_reason in ENDINGS:
            parts.append(ENDINGS[self.finish_reason] + self._why)
        return " · ".join(parts)

    @property
    def _why(self) -> str:
        return f": {self.trouble}" if self.trouble else ""

    def behind(self, earlier: Answer) -> Answer:
        """This answer as what goes on with an earlier one: texts and figures of both together."""
        if not earlier.text:
            return self
        return replace(
            self,
            text=earlier.text + self.text,
            n_tokens=earlier.n_tokens + self.n_tokens,
            first_token_seconds=earlier.first_token_seconds,
            seconds=earlier.seconds + self.seconds - (self.first_token_seconds or 0.0),
        )


async def stream_answer(
    server: Server, model: str, messages: Sequence[Message], settings: Settings
) -> AsyncGenerator[Answer]:
    """The answer as it grows; closing the generator closes the request, so the server stops too.

    The last one has a ``finish_reason``: ``broken`` where the stream ended without one.

    Raises:
        ServerError: the server is gone, stays busy, or refuses.
    """
    yield Answer()
    try:
        async with aclosing(_patiently(server, _body(model, messages, settings))) as answers:
            async for answer in answers:
                yield answer
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotServed(
            f"The model server at {server.url} does not answer. Is it running? Press Retry to ask again."
        ) from error
    except Refused as error:
        if error.status == BUSY:
            raise ServerError("The model server is busy. Press Retry to ask again.") from error
        if CONTEXT_FULL.search(error.told):
            raise ContextFull(f"The model server refuses: {error}") from error
        if error.status >= 500:
            raise ServerError(f"The model server is not ready: {error}. Press Retry to ask again.") from error
        raise NotServed(f"The model server refuses: {error}") from error
    except ValueError as error:
        raise ServerError(f"The model server failed: {error}. Press Retry to ask again.") from error


def _body(model: str, messages: Sequence[Message], settings: Settings) -> dict[str, Any]:
    seed = {} if settings.seed is None else {"seed": settings.seed}
    return {
        "model": model,
        "messages": list(messages),
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **seed,
    }


async def _patiently(server: Server, body: dict[str, Any]) -> AsyncGenerator[Answer]:
    """The answer, asked for again as often as a busy server says when to come again."""
    waited = 0.0
    while True:
        started = time.monotonic()
        try:
            async with server.chat(body) as lines, aclosing(_read(lines, started)) as answers:
                async for answer in answers:
                    yield answer
                return
        except Refused as error:
            again = error.status == BUSY or error.status >= 500
            if not again or error.retry_after is None or waited + error.retry_after > LONGEST_WAIT_SECONDS:
                raise
            wait = max(SHORTEST_WAIT_SECONDS, error.retry_after)
        waited += wait
        yield Answer(busy_seconds=wait)
        await asyncio.sleep(wait)


async def _read(lines: AsyncIterator[bytes], started: float) -> AsyncGenerator[Answer]:
    """The answer as its stream brings it. A stream that breaks ends it with ``broken``, and keeps what has come."""
    answer, n_pieces, event = Answer(), 0, b""
    try:
        async for line in lines:
            if line.startswith(b"event:"):
                event = line.removeprefix(b"event:").strip()
            if not line.startswith((b"data:", b"{")):
                continue
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                # Some servers have no other word for the end.
                answer = replace(answer, finish_reason=answer.finish_reason or "stop")
                yield answer
                continue
            chunk = orjson.loads(data)
            if error := _error_in(chunk, event):
                raise error
            now = time.monotonic() - started
            for choice in chunk.get("choices") or ():
                # A server that does not stream has a message in the place of deltas.
                said = choice.get("delta") or choice.get("message") or {}
                text, thoughts = (
                    _text(said.get("content")),
                    _text(said.get("reasoning_content") or said.get("reasoning")),
                )
                if text or thoughts:
                    n_pieces += 1
                    first = now if answer.first_token_seconds is None else answer.first_token_seconds
                    answer = replace(
                        answer, text=answer.text + text, thoughts=answer.thoughts + thoughts, n_tokens=n_pieces,
                        first_token_seconds=first,
                    )  # fmt: skip
                if choice.get("finish_reason"):
                    answer = replace(answer, finish_reason=choice["finish_reason"], seconds=now)
            if answer.finish_reason is None:
                answer = replace(answer, seconds=now)
            if n_tokens := (chunk.get("usage") or {}).get("completion_tokens"):
                answer = replace(answer, n_tokens=n_tokens)
            yield answer
    except ServerError as error:
        if not answer.text:
            raise type(error)(f"The model server failed: {error}") from error
        answer = replace(answer, trouble=str(error))
    except (aiohttp.ClientError, TimeoutError, ValueError):
        if not answer.text:
            raise
    except (LookupError, TypeError, AttributeError) as error:
        if not answer.text:
            raise ValueError("its stream is not in OpenAI's form") from error
    if answer.finish_reason is None or answer.trouble:
        yield replace(answer, finish_reason=BROKEN)


def _text(content: object) -> str:
    """The text of a delta: a string, or the parts of one."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _error_in(chunk: Any, event: bytes) -> ServerError | None:
    """What an error in a stream says, in the forms that servers have for one."""
    error = chunk.get("error")
    if not error and (event == b"error" or chunk.get("object") == "error"):
        error = chunk
    if not error:
        return None
    words = str(error.get("message") or error if isinstance(error, dict) else error)
    return ContextFull(words) if CONTEXT_FULL.search(str(error)) else ServerError(words)
