"""The served model as the API describes it, and what requests to it depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import GenerationDefaults, Message
from components.model_server.tool_calls.format import CallFormat
from components.modeling.chat_template import Edges
from components.modeling.reasoning import before_reasoning

if TYPE_CHECKING:
    from components.gguf.model import GgufModel


@dataclass(frozen=True)
class ServedModel:
    """Requests give ``name`` as their model, or one of ``aliases``.

    ``generation`` has the defaults of settings; ``figures`` are numbers by llama-server's names; ``opens_reasoning``
    takes variables of the chat template and returns whether the generation prompt then opens the reasoning;
    ``answer_edges`` is white space around an answer that is no part of it; ``call_format`` is how the model calls
    tools, None where its template does not support them; ``file`` has the sha256 and the proof answer of its manifest.
    """

    name: str
    aliases: Sequence[str]
    generation: GenerationDefaults
    example_prompts: Sequence[str]
    figures: dict[str, int]
    opens_reasoning: Callable[[Mapping[str, Any]], bool]
    answer_edges: Edges
    call_format: CallFormat | None
    file: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_model(cls, model: GgufModel, model_id: str | None = None) -> ServedModel:
        """The description of a loaded file, with its manifest if it has one; ``model_id`` overrides the name there."""
        stem, manifest = model.path.stem, model.manifest
        name = model_id or (manifest and manifest.name) or stem
        # Names from before manifests had a name; accepted until 0.3.
        former = () if manifest is None or manifest.name is None else (stem, f"{manifest.name}-{manifest.quantization}")
        aliases = [alias for alias in former if alias != name]
        figures = {
            "n_ctx": model.n_ctx,
            "n_ctx_train": model.context_length,
            "n_params": model.n_parameters,
            "size": model.size_bytes,
        }
        generation = GenerationDefaults() if manifest is None else manifest.generation
        examples = () if manifest is None else tuple(manifest.example_prompts)
        file = {} if manifest is None else manifest.model_dump(include={"sha256", "proof"}, exclude_none=True)
        if not model.template:
            return cls(name, aliases, generation, examples, figures, lambda _: False, Edges(), None, file)
        by_default = _opens_reasoning(model, {})

        def opens_reasoning(template_kwargs: Mapping[str, Any]) -> bool:
            return _opens_reasoning(model, template_kwargs) if template_kwargs else by_default

        call_format = CallFormat.from_template(model)
        return cls(name, aliases, generation, examples, figures, opens_reasoning, model.answer_edges, call_format, file)

    def has_name(self, model_id: str) -> bool:
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
            **self.file,
            "default_generation_settings": self.default_generation_settings,
            "example_prompts": list(self.example_prompts),
        }


def _opens_reasoning(model: GgufModel, template_kwargs: Mapping[str, Any]) -> bool:
    prompt = model.prompt([Message(role="user", content="Hi")], template_kwargs=template_kwargs)
    return before_reasoning(prompt) is not None
