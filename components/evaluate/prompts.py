"""The prompts file: YAML, a list of ``name``, an optional ``system``, and the user's ``turns`` in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.errors import DataError
from components.storage.digests import sha256_of


class Prompt(BaseModel):
    """The user's turns of one conversation; each is asked after the answer to the one before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    system: str | None = None
    turns: Annotated[list[str], Field(min_length=1)]


def read_prompts(path: Path, revision: str | None = None) -> list[Prompt]:
    """The prompts of a file, which must have the sha256 ``revision`` unless that is None.

    Raises:
        DataError: the file is missing, empty, changed, or not a list of prompts.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such prompts file; correct evaluate.prompts, or leave it out")
    if revision is not None and sha256_of(path) != revision:
        raise DataError(f"{path}: the file changed while the run was going on; run again to use the new content")
    try:
        prompts = TypeAdapter(list[Prompt]).validate_python(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except YAMLError as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path}: {key or 'the file'}: {first['msg']}; see pipelines/recipes/prompts for the form"
        ) from error
    if not prompts:
        raise DataError(f"{path}: holds no prompts; add one, or leave evaluate.prompts out")
    return prompts
