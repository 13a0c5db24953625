"""What the API says of the model that it serves, beside its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.contracts import GenerationDefaults

if TYPE_CHECKING:
    from components.gguf_model import GgufModel


@dataclass(frozen=True)
class ServedModel:
    """``generation`` holds where a request leaves a setting out; ``figures`` are numbers by llama-server's names."""

    generation: GenerationDefaults
    example_prompts: Sequence[str]
    figures: dict[str, int]

    @classmethod
    def of(cls, model: GgufModel) -> ServedModel:
        """What the file says, and its manifest where it has one."""
        figures = {
            "n_ctx": model.n_ctx,
            "n_ctx_train": model.context_length,
            "n_params": model.n_parameters,
            "size": model.size_bytes,
        }
        if model.manifest is None:
            return cls(GenerationDefaults(), (), figures)
        return cls(model.manifest.generation, model.manifest.example_prompts, figures)

    @property
    def default_generation_settings(self) -> dict[str, float]:
        """The defaults that the model has."""
        return self.generation.model_dump(exclude_none=True)

    def meta(self) -> dict[str, Any]:
        """The object ``meta`` of the model in ``/v1/models``."""
        return {
            **self.figures,
            "default_generation_settings": self.default_generation_settings,
            "example_prompts": list(self.example_prompts),
        }
