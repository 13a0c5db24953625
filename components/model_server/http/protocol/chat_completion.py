"""The body of ``POST /v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from components.errors import RequestError
from components.model_server.engine.interface import Request
from components.model_server.guided_decoding.json_schema import to_text
from components.model_server.http.protocol.base import MAX_CHARACTERS, field_error
from components.model_server.http.protocol.generation import MAX_TOP_LOGPROBS, GenerationRequest, TokenLimit
from components.model_server.http.protocol.messages import ChatMessage
from components.model_server.http.protocol.response_format import ResponseFormat
from components.model_server.http.protocol.tools import MAX_TOOLS, NamedToolChoice, Tool, ToolChoice
from components.model_server.http.served_model import ServedModel
from components.model_server.tool_calls.format import CallFormat
from components.model_server.tool_calls.tool_use import ToolUse

MAX_MESSAGES = 1024
# Calls of all earlier answers together.
MAX_EARLIER_CALLS = 1024
MAX_TEMPLATE_KWARGS = 16
# Variables and functions that a template gets from the server, which no request may set.
RESERVED_TEMPLATE_NAMES = (
    "messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "date_string", "self", "raise_exception",
    "strftime_now", "range", "dict", "lipsum", "cycler", "joiner", "namespace",
)  # fmt: skip


def _check_template_kwargs(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"{name!r} is no name of a variable; leave it out")
        if name in RESERVED_TEMPLATE_NAMES:
            raise ValueError(f"{name} cannot be set there; leave it out")
        if not isinstance(value, bool | int | float | str) or len(str(value)) > 256:
            raise ValueError(f"{name} is neither true, false, a number nor a short text; give one of these")
    return given


TemplateKwargs = Annotated[
    dict[str, Any],
    Field(max_length=MAX_TEMPLATE_KWARGS, description="variables of the chat template, such as enable_thinking"),
    AfterValidator(_check_template_kwargs),
]


class ChatCompletionRequest(GenerationRequest):
    """A conversation to answer."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: TokenLimit = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    reasoning_effort: Annotated[str, StringConstraints(max_length=64)] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    add_generation_prompt: bool | None = None
    continue_final_message: Annotated[bool, Field(description="continue the last message, the assistant's")] = False

    @model_validator(mode="before")
    @classmethod
    def _bound_earlier_calls(cls, given: Any) -> Any:
        """Bound the number of tool calls before each of them is validated."""
        messages = given.get("messages") if isinstance(given, dict) else None
        turns = messages if isinstance(messages, list) else ()
        calls = (turn.get("tool_calls") for turn in turns if isinstance(turn, dict))
        if sum(len(some) for some in calls if isinstance(some, list)) > MAX_EARLIER_CALLS:
            message = f"have more than {MAX_EARLIER_CALLS} tool calls in all; shorten the conversation"
            raise field_error("messages", message)
        return given

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if (self.modalities and self.modalities != ["text"]) or self.audio is not None:
            raise field_error("modalities", "this model writes only text; leave modalities and audio out")
        if self.web_search_options is not None:
            raise field_error("web_search_options", "this server searches nothing; give what was found as a message")
        if self.top_logprobs and not self.logprobs:
            raise field_error("top_logprobs", "goes only with logprobs true")
        if self.continue_final_message and not (self.messages[-1].role == "assistant" and self.messages[-1].content):
            raise field_error("continue_final_message", "goes only with a last message of the assistant that has text")
        if self.add_generation_prompt is False and not self.continue_final_message:
            raise field_error("add_generation_prompt", "false goes only with continue_final_message true")
        return self

    @model_validator(mode="after")
    def _check_tools(self) -> Self:
        if self._must_call and not self.tools:
            raise field_error("tool_choice", "there are no tools to choose from; give tools")
        if isinstance(self.tool_choice, NamedToolChoice) and self.tool_choice.function.name not in self._tool_names:
            known = ", ".join(self._tool_names)
            name = self.tool_choice.function.name
            raise field_error("tool_choice", f"no tool has the name {name!r}; there are {known}")
        if len(set(self._tool_names)) < len(self._tool_names):
            raise field_error("tools", "two have the same name; give each its own")
        return self

    @property
    def _must_call(self) -> bool:
        """Whether the answer has to be a tool call."""
        return self.tool_choice not in (None, "none", "auto")

    @property
    def _tool_names(self) -> list[str]:
        return [tool.function.name for tool in self.tools or ()]

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """Variables of the chat template."""
        effort: dict[str, Any] = {} if self.reasoning_effort is None else {"reasoning_effort": self.reasoning_effort}
        if self.reasoning_effort == "none":
            effort["enable_thinking"] = False
        return {**effort, **(self.chat_template_kwargs or {})}

    def to_engine(self, key: str, served: ServedModel) -> Request:
        """The request as the engine takes it; the model's defaults fill in the settings that it leaves out.

        Raises:
            SchemaError: the JSON schema is too long.
            RequestError: there is too much text, or there are tools for a model that cannot call them.
        """
        messages = [message.to_message() for message in self.messages]
        n_characters = sum(len(message.content) + len(message.reasoning_content or "") for message in messages)
        if n_characters > MAX_CHARACTERS:
            raise RequestError("messages", f"more than {MAX_CHARACTERS} characters in all; shorten the conversation")
        schema = None if self.response_format is None else self.response_format.schema_of_answer()
        return Request(
            prompt=messages,
            sampling=self._sampling(served.generation),
            json_schema=None if schema is None else to_text(schema),
            max_tokens=self.max_completion_tokens or self._with_defaults(served.generation).max_tokens,
            stop=self.stop or [],
            key=key,
            template_kwargs=self.template_kwargs,
            continues=self.continue_final_message,
            opens_reasoning=self._may_reason(schema) and served.opens_reasoning(self.template_kwargs),
            tools=self._tool_use(served.call_format),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def _may_reason(self, schema: Mapping[str, Any] | None) -> bool:
        """Whether the answer may begin with reasoning: one that must follow a grammar begins with the grammar."""
        return schema is None and not self._must_call and not self.continue_final_message

    def _tool_use(self, call_format: CallFormat | None) -> ToolUse | None:
        if not self.tools or self.tool_choice == "none":
            return None
        if call_format is None:
            raise RequestError(
                "tools",
                "this model's chat template does not support tools, or writes calls in a form that this server "
                "cannot parse; ask for JSON with response_format, or serve another template "
                "(lorry serve --chat-template FILE)",
            )
        named = self.tool_choice if isinstance(self.tool_choice, NamedToolChoice) else None
        return ToolUse(
            tools=[tool.model_dump(exclude_none=True) for tool in self.tools],
            callable_names=self._tool_names if named is None else [named.function.name],
            call_format=call_format,
            must_call=self._must_call,
            # A small model that has to call goes on calling: more than one call is given where it is asked for.
            parallel=self.parallel_tool_calls is True if self._must_call else self.parallel_tool_calls is not False,
        )
