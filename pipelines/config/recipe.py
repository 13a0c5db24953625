"""The recipe: the one document a user writes, made of the components' own configs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from ruamel.yaml.comments import CommentedMap

from components.errors import DataError, RecipeError
from components.evaluate.prompts import read_prompts
from components.publish_model.config import PublishConfig
from components.split_data.records import FILE_SUFFIXES, is_data_file
from components.split_data.sources import data_files
from pipelines.config.addresses import SHIPPED_BASES, absolute
from pipelines.config.pools import Placement
from pipelines.config.recipe_inputs import inputs_of, with_overrides
from pipelines.config.steps import Sections
from pipelines.config.yaml_document import line_of, location, read_yaml, validated

RECIPES = Path(__file__).parents[1] / "recipes"


class Recipe(Sections):
    """Chat data, base model and settings of one fine-tuning run."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9.-]*$",
            max_length=63,
            description="small letters, digits, '-' and '.', at most 63: it names folders, runs and the served model",
        ),
    ]
    description: str = ""
    base_model: Annotated[
        str,
        Field(
            min_length=1,
            description=f"hub id, folder, GGUF file (a path, or owner/name/file.gguf of the hub), {SHIPPED_BASES[0]} "
            f"(a real small model, from the package index) or {SHIPPED_BASES[1]} (made on the spot, for tests)",
        ),
    ]
    base_revision: Annotated[str | None, Field(description="branch, tag or commit of a hub model")] = None
    full_precision_base: Annotated[
        str | None,
        Field(
            description="what the adapter merges into where base_model has 4 bits; None = the base that its card names"
        ),
    ] = None
    full_precision_revision: Annotated[str | None, Field(description="branch, tag or commit of a hub model")] = None
    placement: Placement = Placement()

    @property
    def addresses(self) -> dict[str, str]:
        """Every address that the recipe names, by its key."""
        read = {given.key: given.address for given in inputs_of(self.split, self.evaluate)}
        written = {} if self.publish.store is None else {"publish.store": self.publish.store}
        full = {} if self.full_precision_base is None else {"full_precision_base": self.full_precision_base}
        return {"base_model": self.base_model, **full, **read, **written}

    def publishing_to(self, store: str) -> Recipe:
        """The same recipe with another store.

        Raises:
            RecipeError: it is the address of none.
        """
        try:
            return self.model_copy(update={"publish": PublishConfig(store=store, oci=self.publish.oci)})
        except ValidationError as error:
            raise RecipeError(f"--store {store}: give s3://bucket/folder, gs://bucket/folder or pvc://claim") from error


def load_recipe(path: Path) -> Recipe:
    """The recipe at ``path``, with its relative paths made absolute from the recipe's own folder.

    Raises:
        RecipeError: it cannot be used; one line of the message a problem, each with its YAML line and key.
    """
    if not path.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise RecipeError(f"{path}: no such recipe file; shipped recipes in {RECIPES}: {known}")
    document = read_yaml(path, "recipe", Recipe)
    if "recipe" in document and "base_model" not in document:
        raise RecipeError(f"{path}: is a sweep, not a recipe; run it with: lorry sweep {path}")
    recipe = validated(path, document, Recipe)
    recipe = with_absolute_paths(recipe, folder_of(path))
    missing = [*_missing_files(recipe, document), *_what_cannot_be_measured(recipe, document)]
    if missing:
        raise RecipeError("\n".join(f"{path}: {problem}" for problem in missing))
    return recipe


def folder_of(path: Path) -> Path:
    """The folder that relative paths of the document at ``path`` begin from, without ``..``."""
    return Path(os.path.abspath(path)).parent


def with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    """The same recipe, its relative paths taken from ``folder``."""
    return with_overrides(recipe, {key: absolute(address, folder) for key, address in recipe.addresses.items()})


def _missing_files(recipe: Recipe, document: CommentedMap) -> Iterator[str]:
    for key, address in recipe.addresses.items():
        if address.startswith("lorry:") and address not in SHIPPED_BASES:
            known = " or ".join(SHIPPED_BASES)
            yield f"line {line_of(document, location(key))}: {key} = {address!r}: unknown; did you mean {known}?"
        if key == "publish.store" or not address.startswith("/"):
            continue
        given = f"line {line_of(document, location(key))}: {key} = {address!r}"
        path = Path(address)
        if not path.exists():
            yield f"{given}: no such file or folder, and not a hub id; correct the path"
        elif key == "evaluate.prompts":
            try:
                read_prompts(path)
            except DataError as error:
                yield f"line {line_of(document, location(key))}: {key}: {error}"
        elif key.endswith(".data") and path.is_file() and not is_data_file(address):
            yield f"{given}: not one of {', '.join(FILE_SUFFIXES)}; convert the data first"
        elif key.endswith(".data") and path.is_dir() and not data_files(path):
            yield f"{given}: the folder holds no {', '.join(FILE_SUFFIXES)} file; name the one with the data"


def _what_cannot_be_measured(recipe: Recipe, document: CommentedMap) -> Iterator[str]:
    if recipe.gate.asks_for_answers and recipe.evaluate.prompts is None:
        key = "gate.max_seconds_per_answer"
        yield (
            f"line {line_of(document, location(key))}: {key} = {recipe.gate.max_seconds_per_answer!r}: no answer is "
            "measured without prompts; name a prompts file in evaluate.prompts, or leave the bound out"
        )
