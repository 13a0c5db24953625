"""The recipe's ``publish`` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.storage.container_registry import REPOSITORY_PATTERN


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
    oci: Annotated[
        str | None,
        Field(
            pattern=REPOSITORY_PATTERN,
            description=(
                "registry/repository that gets the model as an image too, which pods mount; its user and password are "
                "in LORRY_OCI_USER and LORRY_OCI_PASSWORD; None = only the store"
            ),
        ),
    ] = None
