"""The ``halving`` section of a sweep."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class HalvingConfig(BaseModel):
    """Every trial trains a share of its steps; the best continue from their checkpoints to the next share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reduction_factor: Annotated[
        int, Field(ge=2, description="one in so many trials is continued, each rung has so many times the steps")
    ] = 3
    rungs: Annotated[int, Field(ge=2, le=6, description="the last one trains to the end")] = 3

    @property
    def fractions(self) -> list[float]:
        """The share of its steps to which a trial trains in each rung."""
        return [float(self.reduction_factor) ** (rung + 1 - self.rungs) for rung in range(self.rungs)]
