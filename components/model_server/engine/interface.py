"""What the API asks of an engine, and what it gets: requests in, deltas out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from components.artifacts.contracts import Message
from components.errors import LorryError
from components.gguf.sampling import Sampling
from components.model_server.tool_calls.tool_use import ToolUse

FinishReason = Literal["stop", "length"]
# An empty delta is sent after so long without text: proxies close a connection on which nothing comes, the strictest of
# them after some ten seconds.
HEARTBEAT_SECONDS = 3.0
# The key of clients that have none.
NO_KEY = ""


class PromptTooLongError(LorryError):
    """The prompt, in ``field`` of the request, fills the context, so there could be no answer."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class UnavailableError(LorryError):
    """The server is stopping, or not ready yet: another one should be asked."""


class TimedOutError(LorryError):
    """The time of a request was over before its answer began."""


class QueueFullError(LorryError):
    """The queue is full; it may have emptied ``retry_after_seconds`` from now."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Request:
    """What to answer: a conversation, a text to go on with, or its token ids. ``max_tokens`` None: as far as the
    context reaches.

    ``key`` names the client's API key: waiting requests are taken from the keys in turn. ``json_schema`` (JSON) allows
    only answers that follow it. ``template_kwargs`` are variables of the chat template. ``top_logprobs`` asks for the
    log probability of each token, and of that many likeliest tokens at its position; ``echo`` begins the answer with
    the prompt. ``continues`` goes on with the last message, which is the assistant's. ``opens_reasoning``: the
    generation prompt has opened the reasoning.
    """

    prompt: Sequence[Message] | str | Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    key: str = NO_KEY
    json_schema: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tools: ToolUse | None = None
    top_logprobs: int | None = None
    echo: bool = False
    continues: bool = False
    opens_reasoning: bool = False

    @property
    def is_text(self) -> bool:
        """True for a text to go on with, or its token ids; False for a conversation."""
        return isinstance(self.prompt, str) or not isinstance(self.prompt[0], Message)


@dataclass(frozen=True)
class Logprob:
    """A token as text and bytes, with its natural log probability: None for the first of a prompt.

    A special token has text, and no bytes.
    """

    text: str
    bytes: bytes
    logprob: float | None


@dataclass(frozen=True)
class TokenLogprob(Logprob):
    """A token of an answer, and the likeliest tokens at its position, the likeliest first."""

    top: Sequence[Logprob] = ()


@dataclass(frozen=True)
class Delta:
    """What an answer has grown by; without text and ``finish_reason`` it is a heartbeat.

    ``logprobs`` are of the tokens since the last delta. The last one carries ``finish_reason`` and the token counts.
    """

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    logprobs: Sequence[TokenLogprob] = ()


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

    def require_capacity(self, key: str) -> None:
        """Check that a request of ``key`` may wait, before anything is done for it.

        Raises:
            QueueFullError: the queue is full.
        """

    def stream(self, request: Request) -> AsyncGenerator[Delta]:
        """The answer, delta by delta; closing the generator cancels the request.

        Where no text comes for ``HEARTBEAT_SECONDS``, an empty delta does.

        Raises:
            PromptTooLongError: before the first delta.
            QueueFullError: before the first delta.
            UnavailableError: before the first delta.
            TimedOutError: before the first delta.
        """

    def drain(self) -> None:
        """Take nothing new; what runs and waits is finished. Returns at once."""

    def stop(self) -> None:
        """End what runs, soon; returns at once. Streams still get their finish_reason."""

    def close(self) -> None:
        """Stop, wait for the end and free the model."""
