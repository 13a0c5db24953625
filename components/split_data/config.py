"""What a user may say about the split: the recipe's ``split`` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]


class SplitConfig(BaseModel):
    """Which chat data, and how many rows go where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Annotated[
        str, Field(min_length=1, description="path or bucket address of a .jsonl, .json or .parquet file, or a hub id")
    ]
    data_split: Annotated[str, Field(description="which split of a hub data set is read; files ignore it")] = "train"
    data_revision: Annotated[
        str | None,
        Field(description="sha256 of the file, or commit of the hub data set; written when the recipe is resolved"),
    ] = None
    limit: Annotated[int | None, Field(gt=0, description="rows read from the start of the data; None = all")] = None
    train_rows: Annotated[int | None, Field(gt=0, description="rows; None = all that the other splits leave")] = None
    validation_rows: Annotated[int, Field(gt=0, description="rows")]
    test_rows: Annotated[int, Field(ge=0, description="rows; read only when evaluate.test asks")] = 0
    seed: Annotated[int, Field(ge=0, description="another seed, another split")] = 0
