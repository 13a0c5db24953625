"""OpenAI's wire, as far as this server speaks it. Fields are allow-listed: an unknown one is an error.

What cannot change an answer is taken and not used. Parameters of the engine are not reachable; ``top_k``, ``min_p``,
``repetition_penalty`` and ``chat_template_kwargs`` are the extensions that other open servers have under these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from components.artifacts.contracts import (
    MAX_TOKENS,
    GenerationDefaults,
    MaxTokens,
    MinP,
    RepetitionPenalty,
    Temperature,
)
from components.errors import LorryError
from components.gguf.sampling import Sampling
from components.model_server.engine.interface import Request
from components.model_server.guided_decoding.json_schema import ANY_OBJECT, to_text
from components.model_server.http.messages import (
    MAX_CHARACTERS,
    MAX_TOOLS,
    NamedTool,
    Text,
    Tool,
    Wire,
    WireMessage,
    tool_choice_of,
)
from components.model_server.http.served_model import ServedModel
from components.model_server.tool_calls.format import CallFormat
from components.model_server.tool_calls.tool_use import ToolUse

MAX_BODY_BYTES = 4 << 20
MAX_MESSAGES = 1024
MAX_CALLS_BACK = 1024
MAX_BIASES = 300
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20
MAX_TEMPLATE_KWARGS = 16
LOWEST_TEMPERATURE = 0.01
LOWEST_TOP_P = 1e-6
# The largest seed of llama.cpp means that it chooses one.
N_SEEDS = 2**32 - 1
# The template's own, which no request may set.
OWN_OF_TEMPLATE = (
    "messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "date_string", "self", "raise_exception",
    "strftime_now", "range", "dict", "lipsum", "cycler", "joiner", "namespace",
)  # fmt: skip
# What other servers have under these names, and what does it here.
INSTEAD = {
    "functions": "tools", "function_call": "tool_choice", "guided_json": "response_format",
    "json_schema": "response_format", "structured_outputs": "response_format", "guided_grammar": "response_format",
    "guided_regex": "response_format with a pattern", "guided_choice": "response_format with an enum",
    "grammar": "response_format", "repeat_penalty": "repetition_penalty", "n_predict": "max_tokens",
    "num_predict": "max_tokens", "max_new_tokens": "max_tokens", "stop_token_ids": "stop",
    "enable_thinking": "chat_template_kwargs", "thinking": "chat_template_kwargs", "input": "messages",
}  # fmt: skip


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _without_empty(stops: list[str]) -> list[str]:
    return [stop for stop in stops if stop]


def _without_bound(limit: Any) -> Any:
    """-1 means as far as the context reaches, as in llama.cpp."""
    return MAX_TOKENS if limit == -1 else limit


def _only_one(number: int) -> int:
    if number != 1:
        raise ValueError("a request has one answer here; send several requests, at once if you like")
    return number


OneAnswer = Annotated[int, AfterValidator(_only_one)]
StopString = Annotated[str, StringConstraints(max_length=256)]
Stops = Annotated[
    list[StopString],
    Field(max_length=MAX_STOPS),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    AfterValidator(_without_empty),
]
Limit = Annotated[MaxTokens | None, BeforeValidator(_without_bound)]
Seed = Annotated[int, AfterValidator(lambda seed: seed % N_SEEDS)]
Ignored = Annotated[Any, Field(description="taken, and changes nothing here")]


class StreamOptions(Wire):
    """Whether the token counts come in a last chunk of their own."""

    include_usage: bool = False
    continuous_usage_stats: Literal[False] | None = None
    include_obfuscation: Ignored = None


class NamedSchema(Wire):
    """A JSON schema that the answer must follow; it is always followed to the letter, ``strict`` or not."""

    name: Annotated[str, StringConstraints(max_length=256)] = ""
    description: Ignored = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: Ignored = None


class ResponseFormat(Wire):
    """Any text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    # Together and llama-cpp-python have a schema beside ``json_object``.
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("has no json_schema; give {'name': '…', 'schema': {…}} there")
        return self

    def json_schema_of_answer(self) -> dict[str, Any] | None:
        """The schema of a JSON answer; None where it may be any text."""
        if self.type == "text":
            return None
        given = self.schema_ if self.json_schema is None else self.json_schema.schema_
        return ANY_OBJECT if given is None else given


class _Generation(Wire):
    """What both kinds of completions have in common."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000, description="0 or -1: every token")] | None = None
    min_p: MinP | None = None
    max_tokens: Limit = None
    stop: Stops | None = None
    seed: Seed | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    logit_bias: Annotated[dict[int, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)] | None = (
        None
    )
    n: OneAnswer | None = None
    user: Ignored = None
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    prompt_cache_options: Ignored = None
    prediction: Ignored = None
    moderation: Ignored = None
    verbosity: Ignored = None
    request_id: Ignored = None
    priority: Ignored = None
    cache_prompt: Ignored = None

    @model_validator(mode="before")
    @classmethod
    def _can_be_done(cls, given: Any) -> Any:
        """Refuse what would change the answer and is not done here, and say what to use."""
        if not isinstance(given, dict):
            return given
        if given.get("suffix"):
            raise ValueError("suffix: nothing is written into the middle of a text here; leave it out")
        for name in given.keys() & INSTEAD.keys() - cls.model_fields.keys():
            if given[name] not in (None, "", "none", "auto", [], {}):
                raise ValueError(f"{name}: is not known here; use {INSTEAD[name]}")
        return {name: value for name, value in given.items() if name not in INSTEAD or name in cls.model_fields}

    @property
    def wants_usage(self) -> bool:
        """True when a stream shall end with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _held(self, defaults: GenerationDefaults) -> GenerationDefaults:
        """What the request gives, and the model's defaults where it gives nothing."""
        return defaults.overridden_by(dict(self))

    def _sampling(self, defaults: GenerationDefaults) -> Sampling:
        held = self._held(defaults)
        temperature = 1.0 if held.temperature is None else held.temperature
        return Sampling(
            # Nearly nothing would make infinite logits, and means the same.
            temperature=temperature if temperature >= LOWEST_TEMPERATURE else 0.0,
            top_p=1.0 if held.top_p is None else max(held.top_p, LOWEST_TOP_P),
            top_k=max(held.top_k or 0, 0),
            min_p=held.min_p or 0.0,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            repetition_penalty=1.0 if held.repetition_penalty is None else held.repetition_penalty,
            logit_bias=self.logit_bias or {},
        )


def _of_template(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"{name!r} is no name of a variable; leave it out")
        if name in OWN_OF_TEMPLATE:
            raise ValueError(f"{name} cannot be set there; leave it out")
        if not isinstance(value, bool | int | float | str) or len(str(value)) > 256:
            raise ValueError(f"{name} is neither true, false, a number nor a short text; give one of these")
    return given


TemplateKwargs = Annotated[
    dict[str, Any],
    Field(max_length=MAX_TEMPLATE_KWARGS, description="variables of the chat template, such as enable_thinking"),
    AfterValidator(_of_template),
]
ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedTool,
    BeforeValidator(tool_choice_of, json_schema_input_type=Literal["none", "auto", "required"] | NamedTool),
]


class ChatCompletionRequest(_Generation):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[WireMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Limit = None
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
    continue_final_message: Annotated[bool, Field(description="go on with the last message, the assistant's")] = False

    @model_validator(mode="before")
    @classmethod
    def _calls_little(cls, given: Any) -> Any:
        """Bound the calls before each is looked at."""
        messages = given.get("messages") if isinstance(given, dict) else None
        turns = messages if isinstance(messages, list) else ()
        called = (one.get("tool_calls") for one in turns if isinstance(one, dict))
        if sum(len(calls) for calls in called if isinstance(calls, list)) > MAX_CALLS_BACK:
            raise ValueError(f"messages: more than {MAX_CALLS_BACK} calls of tools in all; shorten the conversation")
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.modalities and self.modalities != ["text"]) or self.audio is not None:
            raise ValueError("modalities: this model writes only text; leave modalities and audio out")
        if self.web_search_options is not None:
            raise ValueError("web_search_options: nothing is searched here; give what was found as a message")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: goes only with logprobs true")
        if self.continue_final_message and not (self.messages[-1].role == "assistant" and self.messages[-1].content):
            raise ValueError("continue_final_message: goes only with a last message of the assistant that has words")
        if self.add_generation_prompt is False and not self.continue_final_message:
            raise ValueError("add_generation_prompt: false goes only with continue_final_message true")
        if self._must_call and not self.tools:
            raise ValueError("tool_choice: there are no tools to choose from; give tools")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in self._tool_names:
            known = ", ".join(self._tool_names)
            raise ValueError(f"tool_choice: no tool is called {self.tool_choice.function.name!r}; there are {known}")
        if len(set(self._tool_names)) < len(self._tool_names):
            raise ValueError("tools: two have the same name; give each its own")
        return self

    @property
    def _must_call(self) -> bool:
        """Whether the answer is a call."""
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
        """The request as the engine takes it; the model's defaults hold where it leaves something out.

        Raises:
            SchemaError: the JSON schema is too long.
            LorryError: there are too many words, or tools for a model that takes none.
        """
        messages = [message.to_message() for message in self.messages]
        said = (len(message.content) + len(message.reasoning_content or "") for message in messages)
        if sum(said) > MAX_CHARACTERS:
            raise LorryError(f"messages: more than {MAX_CHARACTERS} characters in all; shorten the conversation")
        schema = None if self.response_format is None else self.response_format.json_schema_of_answer()
        return Request(
            prompt=messages,
            sampling=self._sampling(served.generation),
            json_schema=None if schema is None else to_text(schema),
            max_tokens=self.max_completion_tokens or self._held(served.generation).max_tokens,
            stop=self.stop or [],
            key=key,
            template_kwargs=self.template_kwargs,
            continues=self.continue_final_message,
            opens_reasoning=self._is_free(schema) and served.opens_reasoning(self.template_kwargs),
            tools=self._tool_use(served.call_format),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def _is_free(self, schema: Mapping[str, Any] | None) -> bool:
        """Whether the answer may begin with thoughts: what must follow a grammar begins with it."""
        return schema is None and not self._must_call and not self.continue_final_message

    def _tool_use(self, call_format: CallFormat | None) -> ToolUse | None:
        if not self.tools or self.tool_choice == "none":
            return None
        if call_format is None:
            raise LorryError(
                "tools: this model's chat template has no place for tools, or writes calls in a form that is not read "
                "here; ask for JSON with response_format, or serve another template (lorry serve --chat-template FILE)"
            )
        named = self.tool_choice if isinstance(self.tool_choice, NamedTool) else None
        return ToolUse(
            tools=[tool.model_dump(exclude_none=True) for tool in self.tools],
            callable_names=self._tool_names if named is None else [named.function.name],
            call_format=call_format,
            must_call=self._must_call,
            # A small model that has to call goes on calling: more than one call is given where it is asked for.
            parallel=self.parallel_tool_calls is True if self._must_call else self.parallel_tool_calls is not False,
        )


def _one_prompt(given: Any) -> Any:
    """The one prompt of a list: a text, or token ids."""
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        if len(given) > 1:
            raise ValueError("a request has one prompt here; send several requests, at once if you like")
        given = given[0]
    if given == []:
        return ""
    is_ids = isinstance(given, list) and all(type(token) is int and token >= 0 for token in given)
    if not is_ids and not isinstance(given, str):
        raise ValueError("is neither a text nor a list of token ids; give one of these")
    if len(given) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS}; shorten it")
    return given


# No union: its errors would name the branch, and not the field.
Prompt = Annotated[
    Any, BeforeValidator(_one_prompt, json_schema_input_type=Text | list[Text] | list[int] | list[list[int]])
]


class CompletionRequest(_Generation):
    """The body of ``POST /v1/completions``: one text to go on with, or its token ids."""

    prompt: Prompt
    max_tokens: Annotated[Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None, BeforeValidator(_without_bound)] = 16
    echo: bool | None = None
    best_of: OneAnswer | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    suffix: None = None

    def to_engine(self, key: str, served: ServedModel) -> Request:
        """The request as the engine takes it; of its tokens OpenAI's default of 16 holds, whatever the model's is."""
        if self.max_tokens == 0 and not self.echo:
            raise LorryError("max_tokens: 0 goes only with echo; give at least 1")
        return Request(
            prompt=self.prompt,
            sampling=self._sampling(served.generation),
            max_tokens=self.max_tokens,
            stop=self.stop or [],
            key=key,
            top_logprobs=self.logprobs,
            echo=bool(self.echo),
        )


class Usage(BaseModel):
    """Token counts of one answer; ``cached_tokens`` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]


class WireError(BaseModel):
    """OpenAI's shape of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body that carries it."""
        return {"error": self.model_dump()}
