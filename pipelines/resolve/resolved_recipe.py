"""Resolving a recipe: files become digests, hub ids become commits, defaults are written out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef
from components.errors import DataError, RecipeError
from components.evaluate.prompts import read_prompts
from components.split_data.records import is_data_file
from components.split_data.sources import data_folder_revision
from components.storage.digests import sha256_of
from components.storage.local_files import local_file
from components.storage.store import in_bucket
from pipelines.config.addresses import claim_of, is_hub_id, pod_path
from pipelines.config.recipe import Recipe
from pipelines.config.recipe_inputs import Input, inputs_of, with_overrides
from pipelines.config.steps import SECTIONS, Sections
from pipelines.resolve.base_model import resolve_base
from pipelines.resolve.hub import ask_hub

log = logging.getLogger(__name__)


class ResolvedRecipe(Sections):
    """The sections of a recipe with every input pinned; ``arguments`` are the pipeline's parameters."""

    name: str
    base_model: BaseModelRef

    @property
    def addresses(self) -> dict[str, str]:
        """Every address that a step reads or writes, by its key in the recipe."""
        read = {given.key: given.address for given in self.inputs}
        written = {} if self.publish.store is None else {"publish.store": self.publish.store}
        full = self.base_model.full_precision
        bases = {"base_model": self.base_model.address} | ({"full_precision_base": full.address} if full else {})
        return {**bases, **read, **written}

    @property
    def inputs(self) -> list[Input]:
        """Every data set, decontamination file and prompts file, pinned."""
        return inputs_of(self.split, self.evaluate)

    def with_addresses(self, new: Mapping[str, str]) -> ResolvedRecipe:
        """The same inputs, found elsewhere; keys as in ``addresses``."""
        values = dict(new)
        for key, within in (("base_model", "address"), ("full_precision_base", "full_precision.address")):
            if (address := values.pop(key, None)) is not None:
                values[f"base_model.{within}"] = address
        moved = with_overrides(self, values)
        if moved.split.base_model is None:
            return moved
        return moved.model_copy(update={"split": moved.split.model_copy(update={"base_model": moved.base_model})})

    def arguments(self, checkpoint_root: Path | str) -> dict[str, Any]:
        """The pipeline's parameters, defaults written out; a missing key means None, which KFP cannot carry."""
        there = self.with_addresses({key: pod_path(address) for key, address in self.addresses.items()})
        sections = there.model_dump(mode="json", exclude={"name"}, exclude_none=True)
        return {**sections, "recipe": self.name, "checkpoint_root": str(checkpoint_root)}


def resolve(recipe: Recipe, workdir: Path, report: Callable[[str], None]) -> ResolvedRecipe:
    """Pin every input; the demo's base model is made under ``workdir`` when it is not there yet.

    ``report`` gets a line about each thing that takes time. Addresses stay as they are: see ``on_this_machine`` and
    ``pipelines.cluster.upload``.

    Raises:
        DataError: data or prompts are not there.
        ModelError: the base model is not there, or is no model folder.
        RecipeError: what lies on a cluster's volume has no digest in the recipe.
    """
    base_model = resolve_base(recipe, workdir, report)
    pins = {given.revision_key: _revision(given) for given in inputs_of(recipe.split, recipe.evaluate)}
    recipe = with_overrides(recipe, pins)
    sections = {section: getattr(recipe, section) for section in SECTIONS}
    sections["split"] = recipe.split.model_copy(update={"base_model": base_model})
    sections["export"] = recipe.export.model_copy(update={"model_name": recipe.export.model_name or recipe.name})
    return ResolvedRecipe(name=recipe.name, base_model=base_model, **sections)


def on_this_machine(recipe: ResolvedRecipe, store: Path) -> ResolvedRecipe:
    """The recipe as it runs without a cluster; models go into the folder ``store`` when it names no store.

    Raises:
        RecipeError: an address names a cluster's volume.
    """
    for key, address in recipe.addresses.items():
        if claim_of(address):
            raise RecipeError(
                f"{key} = {address!r}: a volume of a cluster, which this machine does not have; "
                "run it there with lorry submit, or give a path or a bucket"
            )
    return recipe if recipe.publish.store else recipe.with_addresses({"publish.store": str(store)})


def _volume_revision(key: str, address: str, revision_key: str, revision: str | None) -> str:
    """The digest that the recipe gives for something on a cluster's volume.

    Raises:
        RecipeError: it gives none.
    """
    if revision is None:
        raise RecipeError(f"{key} = {address!r}: only the cluster can read it; give its sha256 in {revision_key}")
    return revision


def _revision(given: Input) -> str:
    """The digest or commit of one input."""
    if claim_of(given.address):
        return _volume_revision(given.key, given.address, given.revision_key, given.revision)
    if given.is_data and is_hub_id(given.address):
        return _hub_revision(given)
    if given.is_data and not is_data_file(given.address):
        found = _folder_revision(given)
    else:
        path = local_file(given.address, None)
        if given.key == "evaluate.prompts":
            read_prompts(path)
        if not path.is_file():
            raise DataError(f"{given.address}: no such file; correct {given.key}")
        found = sha256_of(path)
    if given.revision not in (None, found):
        raise DataError(
            f"{given.address}: {given.revision_key} names another content than the file has (sha256 {found}); "
            "correct it, or leave it out"
        )
    return found


def _folder_revision(given: Input) -> str:
    if not in_bucket(given.address):
        return data_folder_revision(Path(given.address))
    if given.revision is None:
        raise RecipeError(
            f"{given.key} = {given.address!r}: a folder of a bucket; give its digest in {given.revision_key}, as lorry "
            "submit printed it, or name one file"
        )
    return given.revision


def _hub_revision(given: Input) -> str:
    from huggingface_hub import dataset_info

    info = ask_hub("data set", given.address, lambda: dataset_info(given.address, revision=given.revision), DataError)
    return str(info.sha)
