"""What the API asks of an engine, and what it gets: requests in, pieces of text out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from components.contracts import Message
from components.errors import LorryError
from components.sampling import Sampling

FinishReason = Literal["stop", "length"]
# Of clients without a key.
NO_KEY = ""


class PromptTooLongError(LorryError):
    """The prompt leaves no room for an answer within the context."""


class StoppingError(LorryError):
    """The server stops, or its time for a request is over, before it came to this request."""


class QueueFullError(LorryError):
    """As many requests wait as may, ``retry_after_seconds`` from now there may be room."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Request:
    """What to answer: a conversation, or a text to go on with. ``max_tokens`` None: as far as the context reaches.

    ``key`` says whose request it is: waiting requests are taken from the keys in turn.
    """

    prompt: Sequence[Message] | str
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    key: str = NO_KEY


@dataclass(frozen=True)
class Piece:
    """A piece of an answer. The last one carries ``finish_reason`` and the token counts."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Engine(Protocol):
    """What the API needs of an engine."""

    @property
    def ready(self) -> bool:
        """True while requests are taken."""

    @property
    def alive(self) -> bool:
        """False once the engine can answer nothing any more: the process should be replaced."""

    @property
    def idle(self) -> bool:
        """True when nothing runs and nothing waits."""

    def require_room(self, key: str) -> None:
        """Check that a request of ``key`` may wait, before anything is done for it.

        Raises:
            QueueFullError: as many wait as may.
        """

    def stream(self, request: Request) -> AsyncGenerator[Piece]:
        """The answer, piece by piece; closing the generator cancels the request.

        Raises:
            PromptTooLongError: before the first piece.
            QueueFullError: before the first piece.
            StoppingError: before the first piece.
        """

    def drain(self) -> None:
        """Take nothing new; what runs and waits is finished. Returns at once."""

    def stop(self) -> None:
        """End what runs, soon; returns at once. Streams still get their finish_reason."""

    def close(self) -> None:
        """Stop, wait for the end and free the model."""
