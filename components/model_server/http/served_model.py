"""What the API says of the model that it serves, beside its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import GenerationDefaults, Message
from components.model_server.tool_calls.format import CallFormat
from components.modeling.chat_template import Edges
from components.modeling.reasoning import before_reasoning

if TYPE_CHECKING:
    from components.gguf.model import GgufModel


@dataclass(frozen=True)
class ServedModel:
    """``name`` is what the model is called on the wire, and ``aliases`` are answered as well.

    ``generation`` holds where a request leaves a setting out; ``figures`` are numbers by llama-server's names;
    ``opens_reasoning`` says of variables of the chat template whether an answer begins within thoughts, which the
    generation prompt has opened; ``answer_edges`` is white space around an answer that is no part of it;
    ``call_format`` is how the model calls tools, None where its template does not let it.
    """

    name: str
    aliases: Sequence[str]
    generation: GenerationDefaults
    example_prompts: Sequence[str]
    figures: dict[str, int]
    opens_reasoning: Callable[[Mapping[str, Any]], bool]
    answer_edges: Edges
    call_format: CallFormat | None

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
        said = (
            (GenerationDefaults(), ()) if manifest is None else (manifest.generation, tuple(manifest.example_prompts))
        )
        if not model.template:
            return cls(name, aliases, *said, figures, lambda _: False, Edges(), None)
        by_default = _opens_reasoning(model, {})

        def opens_reasoning(template_kwargs: Mapping[str, Any]) -> bool:
            return _opens_reasoning(model, template_kwargs) if template_kwargs else by_default

        return cls(name, aliases, *said, figures, opens_reasoning, model.answer_edges, CallFormat.of(model))

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


def _opens_reasoning(model: GgufModel, template_kwargs: Mapping[str, Any]) -> bool:
    prompt = model.prompt([Message(role="user", content="Hi")], template_kwargs=template_kwargs)
    return before_reasoning(prompt) is not None
