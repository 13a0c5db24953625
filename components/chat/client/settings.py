"""How a model is asked to answer, within the bounds of the page's sliders."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from components.artifacts.contracts import GenerationDefaults

LOWEST_TOP_P = 0.05
LOWEST_MAX_TOKENS, HIGHEST_MAX_TOKENS = 16, 2048


@dataclass(frozen=True)
class Settings:
    """``max_tokens`` counts tokens of the answer; a ``seed`` of None is a new one each time."""

    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float = 1.0
    seed: int | None = None

    @classmethod
    def from_defaults(cls, generation: GenerationDefaults) -> Settings:
        """A model's own defaults, clamped to the page's sliders; the page's defaults for what the model leaves out."""
        own = {
            **asdict(cls()),
            **generation.model_dump(include={"temperature", "top_p", "max_tokens"}, exclude_none=True),
        }
        own["top_p"] = max(LOWEST_TOP_P, own["top_p"])
        own["max_tokens"] = min(max(LOWEST_MAX_TOKENS, own["max_tokens"]), HIGHEST_MAX_TOKENS)
        return cls(**own)
