"""The recipe's ``gate`` section: bounds that a model must be within to be published."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class GateConfig(BaseModel):
    """Bounds; None sets none. A model outside any of them is not published."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_validation_loss: Annotated[float | None, Field(gt=0, description="nats a token, of the tuned model")] = None
    max_perplexity_increase: Annotated[
        float | None, Field(ge=0, description="of the quantized file over f16; 0.05 is 5 percent")
    ] = None
    max_kl_divergence: Annotated[float | None, Field(ge=0, description="of the quantized file from f16; nats")] = None
    min_same_top_token: Annotated[
        float | None, Field(ge=0, le=1, description="share of tokens at which the quantized file agrees with f16")
    ] = None
    max_seconds_per_answer: Annotated[
        float | None, Field(gt=0, description="mean seconds of the quantized file's answers; needs evaluate.prompts")
    ] = None

    @property
    def asks_for_answers(self) -> bool:
        """Whether a bound is on a figure that only prompts measure."""
        return self.max_seconds_per_answer is not None
