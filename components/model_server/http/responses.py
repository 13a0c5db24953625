"""Answers in OpenAI's words, whole or as server-sent events."""

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
from components.gguf.model import TextStream
from components.model_server.engine.interface import HEARTBEAT_SECONDS, Delta, Logprob, TokenLogprob
from components.model_server.http.protocol import Usage, WireError
from components.model_server.tool_calls.stream import Call, CallStream
from components.model_server.tool_calls.tool_use import ToolUse
from components.modeling.chat_template import Edges
from components.modeling.reasoning import PLAIN, AssistantDelta, ReasoningStream

log = logging.getLogger(__name__)

DONE = "data: [DONE]\n\n"
# A comment of server-sent events, which clients do not read and proxies take for life.
WORKING = ": working\n\n"
# Some clients end a line at these too, as Python's splitlines does.
NO_LINE_ENDS = {ord(char): f"\\u{ord(char):04x}" for char in "\u0085\u2028\u2029"}


class WireAnswer(ABC):
    """One answer; ``ended`` hears of its last delta."""

    id_prefix: ClassVar[str]
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, model_id: str, ended: Callable[[Delta], None]) -> None:
        self._head = {"id": f"{self.id_prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model_id}
        self._ended = ended
        self._started = time.monotonic()
        # Until the first words, or the end.
        self.first_delta_seconds: float | None = None

    @abstractmethod
    def feed(self, delta: Delta) -> list[dict[str, Any]]:
        """What the choices of the chunks say that a delta becomes."""

    @abstractmethod
    def rest(self) -> list[dict[str, Any]]:
        """What the choices of the chunks say of what was held back until the end."""

    @abstractmethod
    def whole_choice(self) -> dict[str, Any]:
        """What a choice of the whole answer says of all that was fed, beside its finish_reason."""

    #: What the last chunk's choice says.
    end: ClassVar[dict[str, Any]]
    #: What comes before the first delta.
    opening: ClassVar[Sequence[dict[str, Any]]] = ()

    def finish_reason(self, last: Delta) -> str | None:
        """Why it has ended, in OpenAI's words."""
        return last.finish_reason

    async def whole(self, deltas: AsyncIterator[Delta]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        async for delta in deltas:
            self._note(delta)
            self.feed(delta)
            last = delta
        self.rest()
        self._ended(last)
        choice = {"index": 0, **self.whole_choice(), "finish_reason": self.finish_reason(last)}
        return {**self._head, "object": self.whole_object, "choices": [choice], "usage": _usage(last)}

    async def events(self, deltas: AsyncGenerator[Delta], *, include_usage: bool) -> AsyncIterator[str]:
        """Server-sent events: the deltas, the finish reason, the counts when wanted, and [DONE].

        A comment says that the server still works where it has nothing else to say.
        """
        opened, sent, last = False, time.monotonic(), Delta("")
        # aclosing: when the client goes away this generator is closed, and with it the engine's.
        async with aclosing(deltas):
            try:
                async for delta in deltas:
                    last = delta
                    self._note(delta)
                    choices = self.feed(delta)
                    for choice in choices if opened or not choices else [*self.opening, *choices]:
                        yield self._chunk(choice)
                    opened = opened or bool(choices)
                    # Words can be held back for long, too: those of a call, or of what may become a stop string.
                    if choices or not delta.text or time.monotonic() - sent > HEARTBEAT_SECONDS:
                        sent = time.monotonic()
                        if not choices and delta.finish_reason is None:
                            yield WORKING
            except Exception as error:
                if not isinstance(error, LorryError):
                    log.exception("an answer failed")
                yield _event(WireError(message=words_of(error), type="server_error").body())
                yield DONE
                return
        self._ended(last)
        for choice in [*(() if opened else self.opening), *self.rest()]:
            yield self._chunk(choice)
        yield self._chunk(self.end, self.finish_reason(last))
        if include_usage:
            yield _event({**self._head, "object": self.chunk_object, "choices": [], "usage": _usage(last)})
        yield DONE

    def _note(self, delta: Delta) -> None:
        if self.first_delta_seconds is None and (delta.text or delta.finish_reason):
            self.first_delta_seconds = round(time.monotonic() - self._started, 3)

    def _chunk(self, choice: dict[str, Any], finish_reason: str | None = None) -> str:
        choices = [{"index": 0, "logprobs": None, **choice, "finish_reason": finish_reason}]
        return _event({**self._head, "object": self.chunk_object, "choices": choices})


class ChatAnswer(WireAnswer):
    """An answer of ``/v1/chat/completions``.

    Thoughts have a field of their own, as vLLM's and llama-server's have.
    """

    id_prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"
    end: ClassVar[dict[str, Any]] = {"delta": {}}
    opening = ({"delta": {"role": "assistant", "content": ""}},)

    def __init__(
        self, model_id: str, ended: Callable[[Delta], None], *, opened: bool = False, edges: Edges = PLAIN,
        tools: ToolUse | None = None,
    ) -> None:  # fmt: skip
        """``opened`` and ``edges``: see ``split_reasoning``; ``tools`` are those that may be called."""
        super().__init__(model_id, ended)
        self._reasoning = ReasoningStream(opened=opened, edges=edges)
        self._calling = None if tools is None else CallStream(tools.call_format, tools.parameters)
        self._thoughts, self._content = "", ""
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[TokenLogprob] = []
        # Of tokens whose words are held back.
        self._unsent: list[TokenLogprob] = []

    def feed(self, delta: Delta) -> list[dict[str, Any]]:
        """See ``WireAnswer``."""
        self._logprobs += delta.logprobs
        self._unsent += delta.logprobs
        return self._choices(self._reasoning.feed(delta.text))

    def rest(self) -> list[dict[str, Any]]:
        """See ``WireAnswer``."""
        choices = self._choices(self._reasoning.rest())
        if self._calling is not None:
            choices += self._deltas(self._calling.rest())
        if self._unsent:
            choices += self._with_logprobs([{"delta": {"content": ""}}])
        return choices

    def whole_choice(self) -> dict[str, Any]:
        """See ``WireAnswer``."""
        message: dict[str, Any] = {"role": "assistant", "content": self._content, "refusal": None}
        if self._thoughts:
            message["reasoning_content"] = self._thoughts
        if self._calls:
            message |= {"content": self._content or None, "tool_calls": self._calls}
        return {"message": message, "logprobs": _of_chat(self._logprobs)}

    def finish_reason(self, last: Delta) -> str | None:
        """See ``WireAnswer``."""
        called = self._calling is not None and self._calling.n_calls > 0 and not self._calling.was_cut
        return "tool_calls" if called and last.finish_reason == "stop" else last.finish_reason

    def _choices(self, said: Sequence[AssistantDelta]) -> list[dict[str, Any]]:
        choices: list[dict[str, Any]] = []
        for one in said:
            if one.is_reasoning:
                self._thoughts += one.text
                choices.append({"delta": {"reasoning_content": one.text}})
            else:
                choices += self._deltas([one.text] if self._calling is None else self._calling.feed(one.text))
        return self._with_logprobs(choices)

    def _deltas(self, found: Sequence[str | Call]) -> list[dict[str, Any]]:
        choices: list[dict[str, Any]] = []
        for one in found:
            if isinstance(one, str):
                self._content += one
                choices.append({"delta": {"content": one}})
            else:
                call = one.as_wire()
                choices.append({"delta": {"tool_calls": [{"index": len(self._calls), **call}]}})
                self._calls.append(call)
        return choices

    def _with_logprobs(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The first of the choices has the log probabilities of what has come since the last ones."""
        if choices and self._unsent:
            choices[0]["logprobs"] = _of_chat(self._unsent)
            self._unsent = []
        return choices


class TextAnswer(WireAnswer):
    """An answer of ``/v1/completions``."""

    id_prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"
    end: ClassVar[dict[str, Any]] = {"text": ""}

    def __init__(self, model_id: str, ended: Callable[[Delta], None]) -> None:
        super().__init__(model_id, ended)
        self._text = ""
        self._logprobs: list[dict[str, Any]] = []
        # Of the next token within the text, in characters.
        self._offset, self._decoder = 0, TextStream()

    def feed(self, delta: Delta) -> list[dict[str, Any]]:
        """See ``WireAnswer``."""
        self._text += delta.text
        logprobs = self._of_text(delta.logprobs)
        self._logprobs += [logprobs] if logprobs else []
        return [{"text": delta.text, "logprobs": logprobs}] if delta.text or logprobs else []

    def rest(self) -> list[dict[str, Any]]:
        """See ``WireAnswer``."""
        return []

    def whole_choice(self) -> dict[str, Any]:
        """See ``WireAnswer``."""
        keys = self._logprobs[0] if self._logprobs else ()
        together = {key: [one for part in self._logprobs for one in part[key]] for key in keys}
        return {"text": self._text, "logprobs": together or None}

    def _of_text(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """OpenAI's older form: a list for each property of a token; ``text_offset`` is in characters of the answer."""
        if not logprobs:
            return None
        offsets = []
        for one in logprobs:
            offsets.append(self._offset)
            self._offset += len(self._decoder.feed(one.bytes))
        tops = [None if one.logprob is None else {_name(top): top.logprob for top in one.top} for one in logprobs]
        return {
            "tokens": list(map(_name, logprobs)),
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": tops,
            "text_offset": offsets,
        }


def words_of(error: Exception) -> str:
    """What a client hears of an error; of a fault of ours, which kind it is."""
    if isinstance(error, LorryError):
        return str(error)
    return f"the server failed ({type(error).__name__}); its log says more"


def _of_chat(logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not logprobs:
        return None
    return {
        "content": [{**_token(one), "top_logprobs": [_token(other) for other in one.top]} for one in logprobs],
        "refusal": None,
    }


def _token(one: Logprob) -> dict[str, Any]:
    return {"token": one.text, "logprob": one.logprob, "bytes": list(one.bytes)}


def _name(one: Logprob) -> str:
    """A token as OpenAI's older form names it: by its bytes where they are no whole characters."""
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in one.bytes) if "\ufffd" in one.text else one.text


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False).translate(NO_LINE_ENDS)}\n\n"


def _usage(last: Delta) -> dict[str, Any]:
    return Usage(
        prompt_tokens=last.prompt_tokens,
        completion_tokens=last.completion_tokens,
        total_tokens=last.prompt_tokens + last.completion_tokens,
        prompt_tokens_details={"cached_tokens": last.cached_tokens},
    ).model_dump()
