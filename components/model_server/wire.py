"""OpenAI's wire, as far as this server speaks it. Fields are allow-listed: an unknown one is an error, not a shrug."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from components.contracts import Message
from components.gguf_model import Sampling
from components.model_server.engine import ChatRequest


class TextPart(BaseModel):
    """One part of a message's content; only text is understood."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class WireMessage(BaseModel):
    """One turn; ``developer`` is OpenAI's newer word for ``system``."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def to_message(self) -> Message:
        """The turn as Lorry's own."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class StreamOptions(BaseModel):
    """Whether the token counts come in a last chunk of their own."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """The body of ``POST /v1/chat/completions``."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: Annotated[list[WireMessage], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int | None, Field(gt=0)] = None
    max_completion_tokens: Annotated[int | None, Field(gt=0)] = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: Annotated[int | None, Field(ge=0, lt=2**32)] = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    n: Literal[1] = 1
    user: str | None = None

    def to_engine(self) -> ChatRequest:
        """The request as the engine takes it."""
        return ChatRequest(
            messages=[message.to_message() for message in self.messages],
            sampling=Sampling(
                temperature=self.temperature,
                top_p=self.top_p,
                seed=self.seed,
                frequency_penalty=self.frequency_penalty,
                presence_penalty=self.presence_penalty,
            ),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop or [],
        )

    @property
    def wants_usage(self) -> bool:
        """True when a stream shall end with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class Usage(BaseModel):
    """Token counts of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class WireError(BaseModel):
    """OpenAI's shape of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body that carries it."""
        return {"error": self.model_dump()}
