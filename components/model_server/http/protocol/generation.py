"""What requests for chat completions and for text completions have in common: how tokens are drawn, and how many."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from components.artifacts.contracts import (
    MAX_TOKENS,
    GenerationDefaults,
    MaxTokens,
    MinP,
    RepetitionPenalty,
    Temperature,
)
from components.gguf.sampling import Sampling
from components.model_server.http.protocol.base import Ignored, StrictModel, field_error

MAX_BIASES = 300
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20
LOWEST_TEMPERATURE = 0.01
LOWEST_TOP_P = 1e-6
# The largest seed of llama.cpp means that it chooses one.
N_SEEDS = 2**32 - 1
# Other servers' names of a setting, and the field that does the same here.
REPLACEMENTS = {
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


def unlimited(limit: Any) -> Any:
    """-1 means as far as the context reaches, as in llama.cpp."""
    return MAX_TOKENS if limit == -1 else limit


def _require_one(number: int) -> int:
    if number != 1:
        raise ValueError("a request has one answer here; send several requests, at once if you like")
    return number


OneAnswer = Annotated[int, AfterValidator(_require_one)]
StopString = Annotated[str, StringConstraints(max_length=256)]
Stops = Annotated[
    list[StopString],
    Field(max_length=MAX_STOPS),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    AfterValidator(_without_empty),
]
TokenLimit = Annotated[MaxTokens | None, BeforeValidator(unlimited)]
Seed = Annotated[int, AfterValidator(lambda seed: seed % N_SEEDS)]
LogitBias = Annotated[dict[int, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_BIASES)]


class StreamOptions(StrictModel):
    """Whether the token counts come in a last chunk of their own."""

    include_usage: bool = False
    continuous_usage_stats: Literal[False] | None = None
    include_obfuscation: Ignored = None


class GenerationRequest(StrictModel):
    """The fields that both kinds of requests have."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000, description="0 or -1: every token")] | None = None
    min_p: MinP | None = None
    max_tokens: TokenLimit = None
    stop: Stops | None = None
    seed: Seed | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    logit_bias: LogitBias | None = None
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
    def _refuse_unsupported(cls, given: Any) -> Any:
        """Refuse fields that would change the answer and are not supported, and name what to use."""
        if not isinstance(given, dict):
            return given
        if given.get("suffix"):
            raise field_error("suffix", "text cannot be inserted before a suffix here; leave it out")
        for name in given.keys() & REPLACEMENTS.keys() - cls.model_fields.keys():
            if given[name] not in (None, "", "none", "auto", [], {}):
                raise field_error(name, f"is not supported; use {REPLACEMENTS[name]}")
        return {name: value for name, value in given.items() if name not in REPLACEMENTS or name in cls.model_fields}

    @property
    def wants_usage(self) -> bool:
        """True when a stream shall end with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _with_defaults(self, defaults: GenerationDefaults) -> GenerationDefaults:
        """The request's settings, and the model's defaults where the request leaves one out."""
        return defaults.overridden_by(dict(self))

    def _sampling(self, defaults: GenerationDefaults) -> Sampling:
        settings = self._with_defaults(defaults)
        temperature = 1.0 if settings.temperature is None else settings.temperature
        return Sampling(
            # A temperature close to zero would make the logits infinite, and means the same as zero.
            temperature=temperature if temperature >= LOWEST_TEMPERATURE else 0.0,
            top_p=1.0 if settings.top_p is None else max(settings.top_p, LOWEST_TOP_P),
            top_k=max(settings.top_k or 0, 0),
            min_p=settings.min_p or 0.0,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            repetition_penalty=1.0 if settings.repetition_penalty is None else settings.repetition_penalty,
            logit_bias=self.logit_bias or {},
        )
