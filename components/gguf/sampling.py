"""How the next token is drawn, in the words of OpenAI's API and of llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 takes the likeliest token; ``top_k`` 0 and ``min_p`` 0 leave every token in.

    ``frequency_penalty`` and ``presence_penalty`` are subtracted from the logits of tokens of this answer,
    ``repetition_penalty`` divides them (1 changes nothing); ``logit_bias`` is added, by token id. ``seed`` None draws
    a new one.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def penalizes(self) -> bool:
        """True when tokens that were generated change the logits of the next one."""
        return (self.frequency_penalty, self.presence_penalty, self.repetition_penalty) != (0.0, 0.0, 1.0)
