"""Responses of ``POST /v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from components.model_server.engine.interface import Delta, Logprob, TokenLogprob
from components.model_server.http.responses.builder import Choice, ResponseBuilder
from components.model_server.tool_calls.parser import ParsedCall, ToolCallParser
from components.model_server.tool_calls.tool_use import ToolUse
from components.modeling.chat_template import Edges
from components.modeling.reasoning import PLAIN, AssistantDelta, ReasoningStream


class ChatCompletionBuilder(ResponseBuilder):
    """A chat completion. Reasoning has a field of its own, ``reasoning_content``, as in vLLM and llama-server."""

    id_prefix, object_name, chunk_object_name = "chatcmpl", "chat.completion", "chat.completion.chunk"
    first_choices = ({"delta": {"role": "assistant", "content": ""}},)
    last_choice: ClassVar[Choice] = {"delta": {}}

    def __init__(
        self, model_id: str, on_end: Callable[[Delta], None], *, opened: bool = False, edges: Edges = PLAIN,
        tools: ToolUse | None = None, **options: Any,
    ) -> None:  # fmt: skip
        """``opened`` and ``edges``: see ``split_reasoning``; ``tools`` are those that may be called."""
        super().__init__(model_id, on_end, **options)
        self._reasoning_stream = ReasoningStream(opened=opened, edges=edges)
        self._parser = None if tools is None else ToolCallParser(tools.call_format, tools.parameters)
        self._reasoning, self._content = "", ""
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[TokenLogprob] = []
        # Of tokens whose text is held back.
        self._unsent_logprobs: list[TokenLogprob] = []

    def add(self, delta: Delta) -> list[Choice]:
        """See ``ResponseBuilder``."""
        self._logprobs += delta.logprobs
        self._unsent_logprobs += delta.logprobs
        return self._choices(self._reasoning_stream.feed(delta.text))

    def finish(self) -> list[Choice]:
        """See ``ResponseBuilder``."""
        choices = self._choices(self._reasoning_stream.rest())
        if self._parser is not None:
            choices += self._content_choices(self._parser.finish())
        if self._unsent_logprobs:
            choices += self._with_logprobs([{"delta": {"content": ""}}])
        return choices

    def whole_choice(self) -> Choice:
        """See ``ResponseBuilder``."""
        message: dict[str, Any] = {"role": "assistant", "content": self._content, "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = self._reasoning
        if self._calls:
            message |= {"content": self._content or None, "tool_calls": self._calls}
        return {"message": message, "logprobs": _logprobs(self._logprobs)}

    def finish_reason(self, last: Delta) -> str | None:
        """See ``ResponseBuilder``."""
        called = self._parser is not None and self._parser.n_calls > 0 and not self._parser.is_truncated
        return "tool_calls" if called and last.finish_reason == "stop" else last.finish_reason

    def _choices(self, parts: Sequence[AssistantDelta]) -> list[Choice]:
        choices: list[Choice] = []
        for part in parts:
            if part.is_reasoning:
                self._reasoning += part.text
                choices.append({"delta": {"reasoning_content": part.text}})
            else:
                parsed = [part.text] if self._parser is None else self._parser.feed(part.text)
                choices += self._content_choices(parsed)
        return self._with_logprobs(choices)

    def _content_choices(self, parsed: Sequence[str | ParsedCall]) -> list[Choice]:
        choices: list[Choice] = []
        for one in parsed:
            if isinstance(one, str):
                self._content += one
                choices.append({"delta": {"content": one}})
            else:
                call = one.to_openai()
                choices.append({"delta": {"tool_calls": [{"index": len(self._calls), **call}]}})
                self._calls.append(call)
        return choices

    def _with_logprobs(self, choices: list[Choice]) -> list[Choice]:
        """The choices, the first with the log probabilities of the tokens since the last ones were sent."""
        if choices and self._unsent_logprobs:
            choices[0]["logprobs"] = _logprobs(self._unsent_logprobs)
            self._unsent_logprobs = []
        return choices


def _logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not logprobs:
        return None
    return {
        "content": [{**_token(one), "top_logprobs": [_token(top) for top in one.top]} for one in logprobs],
        "refusal": None,
    }


def _token(one: Logprob) -> dict[str, Any]:
    return {"token": one.text, "logprob": one.logprob, "bytes": list(one.bytes)}
