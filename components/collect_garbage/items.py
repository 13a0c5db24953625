"""What a place holds, as ``lorry gc`` lists it and as the Job on a volume reports it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from components.artifacts.contracts import Contract

Kind = Literal["model", "input", "base model", "run", "sweep", "checkpoints", "step output", "submitted run"]
PlaceKind = Literal["store", "checkpoints", "work folder"]
# What is deleted is renamed first: a folder of this name was left by a gc that was killed.
REMOVED = ".gc-"
# The reason of an item that another gc, or somebody, deleted first.
GONE = "it was gone already"


class Item(Contract):
    """A part of a place that goes or stays as a whole."""

    kind: Kind
    name: Annotated[str, Field(description="a sha256, a run's id, a run key or a path below the place")]
    size_bytes: int
    modified: Annotated[datetime, Field(description="when its newest file was written")]
    needs: Annotated[list[str], Field(description="references of items that stay if this one does")] = Field(
        default_factory=list
    )
    held: Annotated[str | None, Field(description="why it stays whatever its age")] = None
    unfinished: Annotated[str | None, Field(description="what an upload or a deletion left undone")] = None

    @property
    def reference(self) -> str:
        """How other items and pins name it."""
        return reference(self.kind, self.name)


class Listing(Contract):
    """Everything in a place that is Lorry's; ``foreign`` are the names of what is not, which nothing touches."""

    schema_version: Literal[1] = 1
    kind: PlaceKind
    items: list[Item]
    foreign: list[str] = Field(default_factory=list)
    current: Annotated[str | None, Field(description="the sha256 of the store's newest model")] = None
    warnings: list[str] = Field(default_factory=list)


class Outcome(Contract):
    """What became of one item that should go."""

    kind: Kind
    name: str
    size_bytes: int
    kept_because: Annotated[str | None, Field(description="why it was not deleted; None: it was")] = None


def reference(kind: Kind, name: str) -> str:
    """How items and pins name an item, such as ``model:<sha256>``."""
    return f"{kind}:{name}"
