"""Parsing the stream of a chat completion, in the variants that servers send."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import aiohttp
import orjson

from components.chat.client.errors import CONTEXT_FULL, ContextFullError, ServerError
from components.chat.storage.completion import BROKEN, Completion


async def read_completion(
    lines: AsyncIterator[bytes], started: float, clock: Callable[[], float] = time.monotonic
) -> AsyncGenerator[Completion]:
    """The completion after each event of its stream; seconds count from ``started``.

    The last one has a ``finish_reason``. A stream that breaks off ends with ``broken`` and keeps the text so far.

    Raises:
        ServerError, ValueError, aiohttp.ClientError, TimeoutError: the stream failed before any text.
    """
    completion, n_deltas = Completion(), 0
    try:
        async with aclosing(_chunks(lines)) as chunks:
            async for chunk in chunks:
                if chunk is None:
                    # Some servers send no finish reason, only [DONE].
                    completion = replace(completion, finish_reason=completion.finish_reason or "stop")
                else:
                    completion, n_deltas = _add(completion, chunk, n_deltas, clock() - started)
                yield completion
    except ServerError as error:
        if not completion.text:
            raise type(error)(f"The model server failed: {error}") from error
        completion = replace(completion, error=str(error))
    except (aiohttp.ClientError, TimeoutError, ValueError):
        if not completion.text:
            raise
    except (LookupError, TypeError, AttributeError) as error:
        if not completion.text:
            raise ValueError("its stream is not in OpenAI's form") from error
    if completion.finish_reason is None or completion.error:
        yield replace(completion, finish_reason=BROKEN)


async def _chunks(lines: AsyncIterator[bytes]) -> AsyncGenerator[Any]:
    """The JSON of each event, and None for ``[DONE]``. A server that does not stream sends one line of JSON.

    Raises:
        ServerError: an event is an error.
    """
    event = b""
    async for line in lines:
        if line.startswith(b"event:"):
            event = line.removeprefix(b"event:").strip()
        if not line.startswith((b"data:", b"{")):
            continue
        data = line.removeprefix(b"data:").strip()
        chunk = None if data == b"[DONE]" else orjson.loads(data)
        if chunk is not None and (error := _error_in(chunk, event)):
            raise error
        yield chunk


def _add(completion: Completion, chunk: Mapping[str, Any], n_deltas: int, seconds: float) -> tuple[Completion, int]:
    """The completion with a chunk added, and the number of deltas so far: the token count until the server sends it."""
    for choice in chunk.get("choices") or ():
        # A server that does not stream has a message instead of deltas.
        delta = choice.get("delta") or choice.get("message") or {}
        text = _text(delta.get("content"))
        reasoning = _text(delta.get("reasoning_content") or delta.get("reasoning"))
        if text or reasoning:
            n_deltas += 1
            first = completion.first_token_seconds
            completion = replace(
                completion, text=completion.text + text, reasoning=completion.reasoning + reasoning,
                n_tokens=n_deltas, first_token_seconds=seconds if first is None else first,
            )  # fmt: skip
        if choice.get("finish_reason"):
            completion = replace(completion, finish_reason=choice["finish_reason"], seconds=seconds)
    if completion.finish_reason is None:
        completion = replace(completion, seconds=seconds)
    if n_tokens := (chunk.get("usage") or {}).get("completion_tokens"):
        completion = replace(completion, n_tokens=n_tokens)
    return completion, n_deltas


def _text(content: object) -> str:
    """The text of a delta: a string, or a list of parts."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _error_in(chunk: Any, event: bytes) -> ServerError | None:
    """The error in an event, in the forms that servers have for one."""
    error = chunk.get("error")
    if not error and (event == b"error" or chunk.get("object") == "error"):
        error = chunk
    if not error:
        return None
    message = str(error.get("message") or error if isinstance(error, dict) else error)
    return ContextFullError(message) if CONTEXT_FULL.search(str(error)) else ServerError(message)
