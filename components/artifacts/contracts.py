"""What passes between the parts. Each document carries ``schema_version`` so that an old one is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

Quantization = Literal["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Checkpoint = Literal["final", "best"]
StoppedBy = Literal["steps", "early_stopping", "max_train_minutes", "stop_after_fraction"]
RunStatus = Literal["finished", "diverged", "out_of_memory"]

MAX_TOKENS = 1_000_000
# How an answer is drawn, in the words of OpenAI's API and its extensions; bounds of the wire and of a manifest.
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=0, le=1_000_000, description="0: every token")]
MinP = Annotated[float, Field(ge=0, le=1)]
RepetitionPenalty = Annotated[float, Field(ge=0.1, le=2)]
MaxTokens = Annotated[int, Field(gt=0, le=MAX_TOKENS, description="tokens of an answer")]
MAX_EXAMPLE_PROMPTS = 8
# What a model is called on the wire: it stands in URLs, headers and labels.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
ExamplePrompt = Annotated[str, Field(min_length=1, max_length=200)]
ExamplePrompts = Annotated[list[ExamplePrompt], Field(max_length=MAX_EXAMPLE_PROMPTS)]


class Contract(BaseModel):
    """A frozen document without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Contract):
    """One turn of a conversation. What is not set is not part of the document: a template sees no such key."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(description="empty where the turn is tool calls alone")]
    reasoning_content: Annotated[str | None, Field(description="what the assistant thought before it answered")] = None
    tool_calls: Annotated[list[dict[str, Any]] | None, Field(description="in OpenAI's form")] = None
    tool_call_id: str | None = None
    name: str | None = None
    weight: Annotated[Literal[0, 1] | None, Field(description="0: not trained on, but read as context")] = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}


class Row(Contract):
    """One conversation; ``id`` is a hash of its content, so the same words have the same id everywhere."""

    id: str
    messages: list[Message]
    tools: Annotated[list[dict[str, Any]] | None, Field(description="functions it may call, in OpenAI's form")] = None


class BaseSource(Contract):
    """What a base model's folder was made from here."""

    source: str
    published_as: str | None = None


class BaseModelRef(Contract):
    """Which base model: its address and the exact revision (a commit of the hub, or a sha256 of the local files)."""

    address: str
    revision: str
    weight_bytes: Annotated[int, Field(ge=0, description="size of the weight files; bytes")]
    license: Annotated[str | None, Field(description="as the model's card names it")] = None
    source: Annotated[str | None, Field(description="what its folder was made from, such as a GGUF file")] = None
    published_as: Annotated[str | None, Field(description="hub id of the model that the folder holds")] = None
    quantization: Annotated[str | None, Field(description="how its weights are published, such as nf4")] = None
    full_precision: Annotated[
        BaseModelRef | None, Field(description="what an adapter merges into where the weights are published in 4 bits")
    ] = None

    @property
    def to_merge_into(self) -> BaseModelRef:
        """The model with full weights: an adapter is never merged into 4-bit ones."""
        return self.full_precision or self

    @property
    def is_local(self) -> bool:
        """True when the address is a folder of this machine (or of a mounted volume)."""
        return self.address.startswith("/")


class RunRecord(Contract):
    """One training run: what went in, what came out, on what it ran."""

    schema_version: Literal[2] = 2
    status: RunStatus = "finished"
    reason: Annotated[str | None, Field(description="why it is not finished")] = None
    stopped_by: Annotated[StoppedBy | None, Field(description="what ended the training")] = "steps"
    run_key: str
    base_model: BaseModelRef
    train: dict[str, Any]
    data_fingerprint: Annotated[str, Field(description="sha256 over the ids of the training rows, in order")]
    validation_fingerprint: Annotated[
        str, Field(description="sha256 over the tokens of the validation rows: losses under another one do not compare")
    ]
    code_fingerprint: str
    template_fingerprint: str
    versions: dict[str, str]
    seed: int
    hardware: str
    precision: str
    base_quantization: Annotated[str | None, Field(description="how training held the base's weights")] = None
    train_rows: int
    skipped_rows: Annotated[int, Field(description="rows whose answers were cut away by max_length")]
    trainable_parameters: Annotated[int | None, Field(description="None where it failed before they were made")]
    total_parameters: int | None
    steps: int
    max_steps: Annotated[int | None, Field(description="steps of the whole schedule; None where it failed before")]
    minutes: Annotated[float, Field(description="wall-clock minutes of all invocations together, lost steps apart")]
    tokens_per_second: Annotated[float, Field(description="non-padding tokens, forward and backward; mean")]
    base_eval_loss: Annotated[float | None, Field(description="nats per supervised token before the first step")]
    best_eval_loss: float | None
    best_step: int | None
    final_eval_loss: float | None
    adapter_step: Annotated[int, Field(description="the step whose weights the adapter folder holds")]
    checkpoint: Checkpoint


class Trial(Contract):
    """One run of a sweep: what it is called, what the sweep sets in its recipe, and that recipe."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.=,-]*$", max_length=120)]
    settings: Annotated[dict[str, Any], Field(description="dotted keys of the recipe, and their values")]
    data: list[str]
    recipe: dict[str, Any]


class GenerationDefaults(Contract):
    """How a model answers where a request does not say it; None leaves it to whoever is asked."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    max_tokens: MaxTokens | None = None

    @classmethod
    def within_bounds(cls, values: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """The defaults that ``values`` give, and the names of those that are left out because no bound allows them."""
        kept, left_out = {}, []
        for name in cls.model_fields.keys() & values.keys():
            try:
                kept[name] = getattr(cls.model_validate({name: values[name]}), name)
            except ValidationError:
                left_out.append(name)
        return cls(**kept), sorted(left_out)

    def overridden_by(self, values: Mapping[str, Any]) -> Self:
        """The same defaults, except where ``values``, which are checked already, have one that is not None."""
        return self.model_copy(
            update={name: values[name] for name in type(self).model_fields if values.get(name) is not None}
        )


class ModelManifest(Contract):
    """What a served file is: written beside it as ``model.json``. The sha256 is the model's name downstream."""

    schema_version: Literal[1] = 1
    # A name, not a path: it may come from a store that somebody else can write to.
    file: Annotated[str, Field(pattern=r"^[\w-][\w.-]*\.gguf$")]
    sha256: Sha256
    size_bytes: int
    f16_size_bytes: int
    reduction: Annotated[float, Field(description="1 - size / f16 size")]
    quantization: Quantization
    n_parameters: int
    context_length: int
    base_model: BaseModelRef
    base_license: str | None
    run_key: str
    data_fingerprint: str
    adapter_step: int
    template_fingerprint: str
    evaluation: dict[str, float]
    converter: Annotated[str, Field(description="name and version of what converted and quantized")]
    # Manifests that were written before these three have none of them.
    name: Annotated[ModelName | None, Field(description="what it is called on the wire; None = the file's name")] = None
    example_prompts: Annotated[ExamplePrompts, Field(description="offered before the first question")] = []
    generation: Annotated[GenerationDefaults, Field(description="what holds where a request leaves it out")] = (
        GenerationDefaults()
    )


# The files of a model's folder, and of a run's: what a comparison reads of it.
MANIFEST_NAME = "model.json"
RUN_RECORD_NAME = "run.json"
HISTORY_NAME = "history.jsonl"
TRIAL_NAME = "trial.json"
FIGURES_NAME = "figures.json"
SAMPLES_NAME = "answers.json"
GGUF_ANSWERS_NAME = "answers-gguf.json"
