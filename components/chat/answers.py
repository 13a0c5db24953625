"""Asking an OpenAI-compatible server, and measuring how fast it answers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import openai
from openai.types.chat import ChatCompletionMessageParam


class ServerError(Exception):
    """The server cannot answer now; the words are for the person at the page."""


@dataclass(frozen=True)
class Settings:
    """How to answer. ``max_tokens`` counts tokens of the answer."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """An answer as far as it has come. Seconds count from the request; ``n_tokens`` is the server's at the end."""

    text: str = ""
    n_tokens: int = 0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    finish_reason: str | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens after the first one over the time they took, or None before there are two."""
        if self.first_token_seconds is None or self.n_tokens < 2:
            return None
        return (self.n_tokens - 1) / max(self.seconds - self.first_token_seconds, 1e-9)

    def in_words(self) -> str:
        """One line for below the answer."""
        if self.first_token_seconds is None:
            return "Reading your message…"
        parts = [f"{self.n_tokens} tokens"]
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        parts.append(f"first token after {self.first_token_seconds:.2f} s")
        if self.finish_reason == "length":
            parts.append("cut at the length limit")
        return " · ".join(parts)


async def stream_answer(
    client: openai.AsyncOpenAI, messages: Sequence[ChatCompletionMessageParam], settings: Settings
) -> AsyncGenerator[Answer]:
    """The answer as it grows; closing the generator closes the request, so the server stops too.

    Raises:
        ServerError: the server is gone, busy, or refuses.
    """
    started = time.monotonic()
    answer = Answer()
    yield answer
    try:
        model = await _first_model(client)
        stream = await client.chat.completions.create(
            model=model,
            messages=list(messages),
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        first_token_seconds, text, n_chunks, finish_reason = None, "", 0, None
        async with stream:
            async for chunk in stream:
                n_tokens = chunk.usage.completion_tokens if chunk.usage else 0
                for choice in chunk.choices:
                    finish_reason = choice.finish_reason or finish_reason
                    if choice.delta.content:
                        text += choice.delta.content
                        n_chunks += 1
                        first_token_seconds = first_token_seconds or time.monotonic() - started
                seconds = (
                    time.monotonic() - started
                    if finish_reason is None
                    else answer.seconds or time.monotonic() - started
                )
                answer = Answer(
                    text, n_tokens or max(n_chunks, answer.n_tokens), first_token_seconds, seconds, finish_reason
                )
                yield answer
    except openai.APIConnectionError as error:
        raise ServerError(
            f"The model server at {client.base_url} does not answer. Is it running? Try again."
        ) from error
    except openai.RateLimitError as error:
        raise ServerError("The model server is busy. Try again in a moment.") from error
    except openai.APIStatusError as error:
        raise ServerError(f"The model server refuses: {_said(error)}") from error
    except openai.APIError as error:
        raise ServerError(f"The answer broke off ({error.message}). Try again.") from error


async def _first_model(client: openai.AsyncOpenAI) -> str:
    async for model in client.models.list():
        return model.id
    raise ServerError(f"The server at {client.base_url} serves no model.")


def _said(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message", error.message))
