"""The settings of the export: the recipe's ``export`` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.artifacts.contracts import ExamplePrompts, GenerationDefaults, ModelName, Quantization


class ExportConfig(BaseModel):
    """The GGUF file that is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantization: Annotated[Quantization, Field(description="GGUF quantization; F16 leaves the weights whole")] = (
        "Q4_K_M"
    )
    model_name: Annotated[
        ModelName | None,
        Field(description="name of the served model: letters, digits, '.', '_' and '-'; None = the recipe's name"),
    ] = None
    proof_prompt: Annotated[str, Field(min_length=1, description="asked of the finished file; it must answer")] = (
        "Hello!"
    )
    example_prompts: Annotated[
        ExamplePrompts, Field(description="offered on the chat page before the first question; characters")
    ] = []
    generation: Annotated[
        GenerationDefaults, Field(description="overrides values of the base model's generation_config")
    ] = GenerationDefaults()
