"""What a recipe reads: each address by its key, with the digest or commit that pins it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from components.evaluate.config import EvaluateConfig
from components.split_data.config import SplitConfig

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Input:
    """One address. ``key`` and ``revision_key`` are the recipe's, dotted; a number is an index of a list, from 0."""

    key: str
    address: str
    revision_key: str
    revision: str | None

    @property
    def is_data(self) -> bool:
        """Chat data, which may also be a folder or a data set of the hub."""
        return self.key.endswith(".data")


def inputs_of(split: SplitConfig, evaluate: EvaluateConfig) -> list[Input]:
    """Every data set, decontamination file and prompts file."""
    found = []
    if split.data is not None:
        found.append(Input("split.data", split.data, "split.data_revision", split.data_revision))
    for number, source in enumerate(split.sources):
        source_key = f"split.sources.{number}"
        found.append(Input(f"{source_key}.data", source.data, f"{source_key}.data_revision", source.data_revision))
    pinned = [*split.decontamination.revisions, *[None] * len(split.decontamination.files)]
    for number, (address, revision) in enumerate(zip(split.decontamination.files, pinned, strict=False)):
        found.append(
            Input(
                f"split.decontamination.files.{number}", address, f"split.decontamination.revisions.{number}", revision
            )
        )
    if evaluate.prompts is not None:
        found.append(
            Input("evaluate.prompts", evaluate.prompts, "evaluate.prompts_revision", evaluate.prompts_revision)
        )
    return found


def with_overrides(model: Model, values: Mapping[str, Any]) -> Model:
    """The same document with other values at dotted keys; a list grows by one where a key names its end."""
    document = model.model_dump()
    for key, value in values.items():
        *way, last = key.split(".")
        node: Any = document
        for part in way:
            node = node[int(part)] if isinstance(node, list) else node[part]
        if not isinstance(node, list):
            node[last] = value
        elif int(last) == len(node):
            node.append(value)
        else:
            node[int(last)] = value
    return type(model).model_validate(document)
