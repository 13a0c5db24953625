"""The documents that the parts exchange. Those on disk carry ``schema_version``, by which an old one is recognised."""

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
# Sampling parameters under the names of OpenAI's API and its extensions; bounds for requests and manifests alike.
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=0, le=1_000_000, description="0: every token")]
MinP = Annotated[float, Field(ge=0, le=1)]
RepetitionPenalty = Annotated[float, Field(ge=0.1, le=2)]
MaxTokens = Annotated[int, Field(gt=0, le=MAX_TOKENS, description="tokens of an answer")]
MAX_EXAMPLE_PROMPTS = 8
# The name of a model in the API; it is part of URLs, headers and labels.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
ExamplePrompt = Annotated[str, Field(min_length=1, max_length=200)]
ExamplePrompts = Annotated[list[ExamplePrompt], Field(max_length=MAX_EXAMPLE_PROMPTS)]


class Contract(BaseModel):
    """A frozen document that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Contract):
    """One turn of a conversation. A field that is not set is left out of the document, so that a template finds no such
    key."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(description="empty where the turn has tool calls only")]
    reasoning_content: Annotated[str | None, Field(description="the reasoning before the answer")] = None
    tool_calls: Annotated[list[dict[str, Any]] | None, Field(description="in OpenAI's form")] = None
    tool_call_id: str | None = None
    name: str | None = None
    weight: Annotated[Literal[0, 1] | None, Field(description="0: context only, not trained on")] = None

    @model_serializer(mode="wrap")
    def _without_unset_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}


class Row(Contract):
    """One conversation; ``id`` is a hash of its content, so that equal conversations have equal ids."""

    id: str
    messages: list[Message]
    tools: Annotated[list[dict[str, Any]] | None, Field(description="functions that it may call, in OpenAI's form")] = (
        None
    )


class BaseSource(Contract):
    """The source from which Lorry made a base model's folder."""

    source: str
    published_as: str | None = None


class BaseModelRef(Contract):
    """A base model: its address and exact revision (a commit of the hub, or a sha256 over the local files)."""

    address: str
    revision: str
    weight_bytes: Annotated[int, Field(ge=0, description="size of the weight files; bytes")]
    license: Annotated[str | None, Field(description="as in the model's card")] = None
    source: Annotated[str | None, Field(description="what its folder was made from, such as a GGUF file")] = None
    published_as: Annotated[str | None, Field(description="hub id of the same model")] = None
    quantization: Annotated[str | None, Field(description="type of its published weights, such as nf4")] = None
    full_precision: Annotated[
        BaseModelRef | None,
        Field(description="the model that an adapter merges into where this one is in 4 bits"),
    ] = None

    @property
    def to_merge_into(self) -> BaseModelRef:
        """The model with full weights; an adapter is never merged into 4-bit ones."""
        return self.full_precision or self

    @property
    def is_local(self) -> bool:
        """Whether the address is a folder of this machine or of a mounted volume."""
        return self.address.startswith("/")


class RunRecord(Contract):
    """One training run: its inputs, its results and its hardware."""

    schema_version: Literal[2] = 2
    status: RunStatus = "finished"
    reason: Annotated[str | None, Field(description="why it did not finish")] = None
    stopped_by: Annotated[StoppedBy | None, Field(description="the limit that ended training")] = "steps"
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
    base_quantization: Annotated[str | None, Field(description="type of the base's weights during training")] = None
    train_rows: int
    skipped_rows: Annotated[int, Field(description="rows whose answers were cut away by max_length")]
    trainable_parameters: Annotated[int | None, Field(description="None where training failed before")]
    total_parameters: int | None
    steps: int
    max_steps: Annotated[int | None, Field(description="steps of the whole schedule; None where it failed before")]
    minutes: Annotated[float, Field(description="wall-clock minutes of all invocations together, without lost steps")]
    tokens_per_second: Annotated[float, Field(description="non-padding tokens, forward and backward; mean")]
    base_eval_loss: Annotated[float | None, Field(description="nats per supervised token before the first step")]
    best_eval_loss: float | None
    best_step: int | None
    final_eval_loss: float | None
    adapter_step: Annotated[int, Field(description="the step whose weights the adapter folder holds")]
    checkpoint: Checkpoint
    # Optional: older records have neither.
    peak_memory_bytes: Annotated[int | None, Field(description="resident memory of the process that trained")] = None
    peak_gpu_memory_bytes: Annotated[int | None, Field(description="allocated by torch on the fullest GPU")] = None


class Trial(Contract):
    """One run of a sweep: its name, the settings that the sweep changes, and the resulting recipe."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.=,-]*$", max_length=120)]
    settings: Annotated[dict[str, Any], Field(description="dotted keys of the recipe, and their values")]
    data: list[str]
    recipe: dict[str, Any]


class GenerationDefaults(Contract):
    """Sampling parameters for requests that do not set them; None leaves the parameter to the server."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    max_tokens: MaxTokens | None = None

    @classmethod
    def within_bounds(cls, values: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """The defaults of ``values``, and the names of values that are left out because they exceed a bound."""
        kept, left_out = {}, []
        for name in cls.model_fields.keys() & values.keys():
            try:
                kept[name] = getattr(cls.model_validate({name: values[name]}), name)
            except ValidationError:
                left_out.append(name)
        return cls(**kept), sorted(left_out)

    def overridden_by(self, values: Mapping[str, Any]) -> Self:
        """The defaults with each value of ``values`` that is not None; these are not validated again."""
        return self.model_copy(
            update={name: values[name] for name in type(self).model_fields if values.get(name) is not None}
        )


class ProofAnswer(Contract):
    """What the finished file answered to one prompt, greedily: a server of the same file answers so too."""

    prompt: str
    answer: Annotated[str, Field(description="the text of its tokens, the reasoning's tags included")]
    max_tokens: Annotated[int, Field(gt=0, description="it may have ended before")]


class ModelManifest(Contract):
    """The description of a served file, written beside it as ``model.json``. Later parts name a model by its sha256."""

    schema_version: Literal[1] = 1
    # A name and not a path, as the manifest may come from a store that others can write to.
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
    converter: Annotated[str, Field(description="name and version of the library that converted and quantized")]
    # Optional: older manifests have none of these four.
    name: Annotated[ModelName | None, Field(description="its name in the API; None = the file's name")] = None
    example_prompts: Annotated[ExamplePrompts, Field(description="shown before the first question")] = []
    generation: Annotated[GenerationDefaults, Field(description="for requests that do not set them")] = (
        GenerationDefaults()
    )
    proof: Annotated[ProofAnswer | None, Field(description="`lorry deploy` compares the server's answer with it")] = (
        None
    )


# File names in a model's folder and in a run's folder.
MANIFEST_NAME = "model.json"
RUN_RECORD_NAME = "run.json"
HISTORY_NAME = "history.jsonl"
TRIAL_NAME = "trial.json"
FIGURES_NAME = "figures.json"
SAMPLES_NAME = "answers.json"
GGUF_ANSWERS_NAME = "answers-gguf.json"
