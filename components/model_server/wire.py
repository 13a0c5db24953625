"""OpenAI's wire, as far as this server speaks it. Fields are allow-listed: an unknown one is an error, not a shrug.

Parameters of the engine are not reachable; ``top_k``, ``min_p`` and ``repetition_penalty`` are the extensions that
other open servers have under these names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from components.contracts import (
    GenerationDefaults,
    MaxTokens,
    Message,
    MinP,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from components.errors import LorryError
from components.model_server.engine import Request
from components.model_server.json_schema import ANY_OBJECT, to_text
from components.sampling import Sampling

MAX_BODY_BYTES = 4 << 20
MAX_MESSAGES = 1024
MAX_PARTS = 64
MAX_CHARACTERS = 1_000_000
MAX_BIASES = 300
LOWEST_TEMPERATURE = 0.01

Text = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Wire):
    """One part of a message's content; only text is understood."""

    type: Literal["text"]
    text: Text


class WireMessage(_Wire):
    """One turn; ``developer`` is OpenAI's newer word for ``system``."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS)]
    name: Annotated[str, StringConstraints(max_length=64)] | None = None
    reasoning_content: Annotated[Text | None, Field(description="thoughts of an earlier answer; not read again")] = None

    def to_message(self) -> Message:
        """The turn as Lorry's own."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class StreamOptions(_Wire):
    """Whether the token counts come in a last chunk of their own."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class NamedSchema(_Wire):
    """A JSON schema that the answer must follow; it is always followed to the letter, ``strict`` or not."""

    name: Annotated[str, StringConstraints(max_length=64)]
    description: Annotated[str, StringConstraints(max_length=4096)] | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class PlainText(_Wire):
    """Any text."""

    type: Literal["text"]


class JsonObject(_Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(_Wire):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class _Generation(_Wire):
    """What both kinds of completions have in common."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    max_tokens: MaxTokens | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32 - 1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    logit_bias: Annotated[dict[int, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)] | None = (
        None
    )
    n: Literal[1] | None = None
    user: Annotated[str, StringConstraints(max_length=512)] | None = None

    @property
    def wants_usage(self) -> bool:
        """True when a stream shall end with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _held(self, defaults: GenerationDefaults) -> GenerationDefaults:
        """What the request gives, and the model's defaults where it gives nothing."""
        return defaults.overruled_by(dict(self))

    def _sampling(self, defaults: GenerationDefaults, json_schema: str | None = None) -> Sampling:
        held = self._held(defaults)
        temperature = 1.0 if held.temperature is None else held.temperature
        return Sampling(
            # Nearly nothing would make infinite logits, and means the same.
            temperature=temperature if temperature >= LOWEST_TEMPERATURE else 0.0,
            top_p=1.0 if held.top_p is None else held.top_p,
            top_k=held.top_k or 0,
            min_p=held.min_p or 0.0,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            repetition_penalty=1.0 if held.repetition_penalty is None else held.repetition_penalty,
            logit_bias=self.logit_bias or {},
            json_schema=json_schema,
        )

    def _stop(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ChatCompletionRequest(_Generation):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[WireMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: MaxTokens | None = None
    response_format: Annotated[PlainText | JsonObject | JsonSchema, Field(discriminator="type")] | None = None
    logprobs: Literal[False] | None = None

    def to_engine(self, key: str, defaults: GenerationDefaults) -> Request:
        """The request as the engine takes it; ``defaults`` hold where it leaves something out.

        Raises:
            SchemaError: the JSON schema is too long.
        """
        messages = [message.to_message() for message in self.messages]
        if sum(len(message.content) for message in messages) > MAX_CHARACTERS:
            raise LorryError(f"messages: more than {MAX_CHARACTERS} characters in all; shorten the conversation")
        return Request(
            prompt=messages,
            sampling=self._sampling(defaults, self._json_schema()),
            max_tokens=self.max_completion_tokens or self._held(defaults).max_tokens,
            stop=self._stop(),
            key=key,
        )

    def _json_schema(self) -> str | None:
        if isinstance(self.response_format, JsonObject):
            return to_text(ANY_OBJECT)
        if isinstance(self.response_format, JsonSchema):
            return to_text(self.response_format.json_schema.schema_)
        return None


class CompletionRequest(_Generation):
    """The body of ``POST /v1/completions``: one text to go on with."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: Literal[None] = None
    suffix: Literal[None] = None

    def to_engine(self, key: str, defaults: GenerationDefaults) -> Request:
        """The request as the engine takes it; of its tokens OpenAI's default of 16 holds, whatever the model's is."""
        return Request(
            prompt=self.prompt if isinstance(self.prompt, str) else self.prompt[0],
            sampling=self._sampling(defaults),
            max_tokens=self.max_tokens or 16,
            stop=self._stop(),
            key=key,
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
