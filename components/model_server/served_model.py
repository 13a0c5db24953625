"""What the API says of the model that it serves, beside its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.chat_template import Edges
from components.contracts import GenerationDefaults, Message
from components.reasoning import before_reasoning

if TYPE_CHECKING:
    from components.gguf_model import GgufModel


@dataclass(frozen=True)
class ServedModel:
    """``name`` is what the model is called on the wire, and ``aliases`` are answered as well.

    ``generation`` holds where a request leaves a setting out; ``figures`` are numbers by llama-server's names;
    ``opens_reasoning`` says that an answer begins within thoughts, which the generation prompt has opened;
    ``answer_edges`` is white space around an answer that is no part of it.
    """

    name: str
    aliases: Sequence[str]
    generation: GenerationDefaults
    example_prompts: Sequence[str]
    figures: dict[str, int]
    opens_reasoning: bool
    answer_edges: Edges

    @classmethod
    def of(cls, model: GgufModel, model_id: str | None = None) -> ServedModel:
        """What the file says, and its manifest where it has one; ``model_id`` overrules the name there."""
        stem, manifest = model.path.stem, model.manifest
        name = model_id or (manifest and manifest.name) or stem
        # What a model of a manifest with a name was called before manifests had one; until 0.3.
        former = () if manifest is None or manifest.name is None else (stem, f"{manifest.name}-{manifest.quantization}")
        aliases = [alias for alias in former if alias != name]
        figures = {
            "n_ctx": model.n_ctx,
            "n_ctx_train": model.context_length,
            "n_params": model.n_parameters,
            "size": model.size_bytes,
        }
        opens = before_reasoning(model.prompt([Message(role="user", content="Hi")])) is not None
        edges = model.answer_edges
        if manifest is None:
            return cls(name, aliases, GenerationDefaults(), (), figures, opens, edges)
        return cls(name, aliases, manifest.generation, manifest.example_prompts, figures, opens, edges)

    def answers_to(self, model_id: str) -> bool:
        """Whether a request for ``model_id`` is for this model."""
        return model_id == self.name or model_id in self.aliases

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
