"""The settings of the evaluation: the recipe's ``evaluate`` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class EvaluateConfig(BaseModel):
    """Loss on held-out rows, and answers to prompts, base against tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test: Annotated[bool, Field(description="also measure the test split; leave it for the last run")] = False
    prompts: Annotated[str | None, Field(description="path of a YAML file of prompts; None = no answers")] = None
    prompts_revision: Annotated[
        str | None, Field(description="sha256 of the prompts file; written when the recipe is resolved")
    ] = None
    max_new_tokens: Annotated[int, Field(gt=0, description="tokens an answer")] = 256
    per_device_eval_batch_size: Annotated[int, Field(gt=0, description="rows")] = 8
