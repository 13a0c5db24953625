"""What responses to chat completions and to text completions have in common."""

from __future__ import annotations

import json
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from components.errors import LorryError
from components.model_server.engine.interface import HEARTBEAT_SECONDS, Delta
from components.model_server.http.errors import client_message
from components.model_server.http.protocol.error import ErrorInfo

log = logging.getLogger(__name__)

# A choice of OpenAI's, without its index and finish_reason.
Choice = dict[str, Any]

DONE = "data: [DONE]\n\n"
# A comment of server-sent events, which clients ignore and proxies take as a sign of life.
HEARTBEAT = ": working\n\n"
# Some clients end a line at these too, as Python's splitlines does.
ESCAPED_LINE_ENDS = {ord(char): f"\\u{ord(char):04x}" for char in "\u0085\u2028\u2029"}


class ResponseBuilder(ABC):
    """Builds the response to one request, either ``body`` or ``events``.

    ``on_end`` is called with the last delta. ``ttft_seconds`` is the time until the first text, or the end.
    """

    id_prefix: ClassVar[str]
    object_name: ClassVar[str]
    chunk_object_name: ClassVar[str]
    #: Choices of the chunks before the first delta's.
    first_choices: ClassVar[Sequence[Choice]] = ()
    #: Choice of the chunk that carries the finish_reason.
    last_choice: ClassVar[Choice]

    def __init__(
        self, model_id: str, on_end: Callable[[Delta], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._head = {"id": f"{self.id_prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model_id}
        self._on_end = on_end
        self._clock = clock
        self._started = clock()
        self.ttft_seconds: float | None = None

    @abstractmethod
    def add(self, delta: Delta) -> list[Choice]:
        """The choices of the chunks that a delta becomes; none while its text is held back."""

    @abstractmethod
    def finish(self) -> list[Choice]:
        """The choices of the chunks for what was held back until the end."""

    @abstractmethod
    def whole_choice(self) -> Choice:
        """The choice that holds all that was added."""

    def finish_reason(self, last: Delta) -> str | None:
        """Why the answer has ended, in OpenAI's words."""
        return last.finish_reason

    async def body(self, deltas: AsyncIterator[Delta]) -> dict[str, Any]:
        """The body of a response that is not streamed."""
        async for delta in deltas:
            self._time_first_token(delta)
            self.add(delta)
            last = delta
        self.finish()
        self._on_end(last)
        choice = {"index": 0, **self.whole_choice(), "finish_reason": self.finish_reason(last)}
        return {**self._head, "object": self.object_name, "choices": [choice], "usage": usage_of(last)}

    async def events(self, deltas: AsyncGenerator[Delta], *, include_usage: bool) -> AsyncIterator[str]:
        """Server-sent events: the deltas, the finish reason, the token counts if wanted, and [DONE].

        A heartbeat comes where there is nothing else to send for long.
        """
        opened, sent, last = False, self._clock(), Delta("")
        # aclosing: when the client goes away this generator is closed, and with it the engine's.
        async with aclosing(deltas):
            try:
                async for delta in deltas:
                    last = delta
                    self._time_first_token(delta)
                    choices = self.add(delta)
                    for choice in choices if opened or not choices else [*self.first_choices, *choices]:
                        yield self._chunk(choice)
                    opened = opened or bool(choices)
                    # Text can be held back for long, too: that of a call, or of what may become a stop string.
                    if choices or not delta.text or self._clock() - sent > HEARTBEAT_SECONDS:
                        sent = self._clock()
                        if not choices and delta.finish_reason is None:
                            yield HEARTBEAT
            except Exception as error:
                if not isinstance(error, LorryError):
                    log.exception("a stream failed")
                yield _event(ErrorInfo(message=client_message(error), type="server_error").body())
                yield DONE
                return
        for event in self._last_events(last, opened=opened, include_usage=include_usage):
            yield event

    def _last_events(self, last: Delta, *, opened: bool, include_usage: bool) -> list[str]:
        self._on_end(last)
        choices = [*(() if opened else self.first_choices), *self.finish()]
        events = [*map(self._chunk, choices), self._chunk(self.last_choice, self.finish_reason(last))]
        if include_usage:
            usage = {**self._head, "object": self.chunk_object_name, "choices": [], "usage": usage_of(last)}
            events.append(_event(usage))
        return [*events, DONE]

    def _time_first_token(self, delta: Delta) -> None:
        if self.ttft_seconds is None and (delta.text or delta.finish_reason):
            self.ttft_seconds = round(self._clock() - self._started, 3)

    def _chunk(self, choice: Choice, finish_reason: str | None = None) -> str:
        choices = [{"index": 0, "logprobs": None, **choice, "finish_reason": finish_reason}]
        return _event({**self._head, "object": self.chunk_object_name, "choices": choices})


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False).translate(ESCAPED_LINE_ENDS)}\n\n"


def usage_of(last: Delta) -> dict[str, Any]:
    """Token counts of an answer; ``cached_tokens`` of the prompt were not computed again."""
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.completion_tokens,
        "total_tokens": last.prompt_tokens + last.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": last.cached_tokens},
    }
