"""How the quantized file is measured: the recipe's ``evaluate_gguf`` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class EvaluateGgufConfig(BaseModel):
    """The prompts, and how long an answer may be, are those of the section ``evaluate``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rows: Annotated[int, Field(gt=0, description="validation rows on which both files are compared")] = 100
    n_threads: Annotated[
        int, Field(gt=0, description="cores and threads that answer: the CPU limit of the model server's pods")
    ] = 2
