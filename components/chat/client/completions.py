"""Requests for chat completions, repeated while a server is busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import aiohttp

from components.chat.client.errors import CONTEXT_FULL, ContextFullError, HttpError, NotServedError, ServerError
from components.chat.client.server import Server
from components.chat.client.settings import Settings
from components.chat.client.streams import read_completion
from components.chat.storage.completion import Completion

# A busy server says when to ask again; the page does so for its users, for at most so long in all.
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
TOO_MANY_REQUESTS = 429
Message = dict[str, str]


async def stream_completion(
    server: Server, model: str, messages: Sequence[Message], settings: Settings
) -> AsyncGenerator[Completion]:
    """The completion as it grows; closing the generator closes the request, so the server stops generating too.

    The last one has a ``finish_reason``: ``broken`` if the stream ended without one.

    Raises:
        ServerError: the server does not respond, stays busy, or rejects the request.
    """
    yield Completion()
    try:
        async with aclosing(_retried(server, _body(model, messages, settings))) as completions:
            async for completion in completions:
                yield completion
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotServedError(
            f"The model server at {server.url} does not answer. Is it running? Press Retry to ask again."
        ) from error
    except HttpError as error:
        raise _server_error(error) from error
    except ValueError as error:
        raise ServerError(f"The model server failed: {error}. Press Retry to ask again.") from error


def _server_error(error: HttpError) -> ServerError:
    """What the person at the page is shown instead of an HTTP error."""
    if error.status == TOO_MANY_REQUESTS:
        return ServerError("The model server is busy. Press Retry to ask again.")
    if CONTEXT_FULL.search(error.body):
        return ContextFullError(f"The model server refuses: {error}")
    if error.status >= 500:
        return ServerError(f"The model server is not ready: {error}. Press Retry to ask again.")
    return NotServedError(f"The model server refuses: {error}")


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


async def _retried(server: Server, body: dict[str, Any]) -> AsyncGenerator[Completion]:
    """The completion, requested again as long as a busy server says when to come back."""
    waited = 0.0
    while True:
        started = time.monotonic()
        try:
            async with server.chat(body) as lines, aclosing(read_completion(lines, started)) as completions:
                async for completion in completions:
                    yield completion
                return
        except HttpError as error:
            retryable = error.status == TOO_MANY_REQUESTS or error.status >= 500
            if not retryable or error.retry_after is None or waited + error.retry_after > LONGEST_WAIT_SECONDS:
                raise
            wait = max(SHORTEST_WAIT_SECONDS, error.retry_after)
        waited += wait
        yield Completion(retry_seconds=wait)
        await asyncio.sleep(wait)
