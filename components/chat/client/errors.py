"""Why a server gives no completion; the messages are for the person at the page."""

from __future__ import annotations

import re

# How servers say that a prompt is too long; few have OpenAI's code for it.
CONTEXT_FULL = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window|holds)"
    r"|maximum (input|prompt|sequence) length|(prompt|input) is too long|tokens.* must be <=",
    re.IGNORECASE | re.DOTALL,
)


class HttpError(Exception):
    """A response with an error status. ``body`` is its whole text; ``retry_after`` is in seconds, None if not given."""

    def __init__(self, status: int, message: str, body: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.retry_after = retry_after


class ServerError(Exception):
    """The server cannot answer now."""


class NotServedError(ServerError):
    """The server does not respond or rejects this request: perhaps it does not serve this model any more."""


class ContextFullError(ServerError):
    """The request does not fit into the model's context. ``names_max_tokens``: the length asked for is part of it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.names_max_tokens = re.search(r"max_(new_)?tokens|completion", message) is not None
