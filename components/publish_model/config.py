"""The recipe's ``publish`` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class PublishConfig(BaseModel):
    """The store for finished models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Annotated[
        str | None,
        Field(
            pattern=r"^(s3://.|gs://.|pvc://[a-z0-9]|/).*$",
            description=(
                "s3://bucket/folder, gs://bucket/folder, or pvc://claim/folder on a cluster; "
                "None = the folder store/ of the work folder"
            ),
        ),
    ] = None
