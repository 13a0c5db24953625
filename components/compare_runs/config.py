"""The ``compare`` section of a sweep, and the flags of ``lorry report``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class CompareConfig(BaseModel):
    """Which losses are compared, and the time limit of the chosen model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    at_minutes: Annotated[
        float | None, Field(gt=0, description="compare each run's last validation loss before so many minutes")
    ] = None
    equal_minutes: Annotated[
        bool, Field(description="as at_minutes, with the minutes of the run that trained shortest")
    ] = False
    max_seconds_per_answer: Annotated[
        float | None, Field(gt=0, description="of the quantized model's mean answer; a slower one is not chosen")
    ] = None
