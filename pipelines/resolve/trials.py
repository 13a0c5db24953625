"""The trials of a sweep, and the one trial of a run: their inputs pinned, as the pipeline takes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.contracts import BaseModelRef, Trial
from components.errors import RecipeError
from pipelines.config.addresses import is_local, is_made
from pipelines.config.pools import POOLS
from pipelines.config.recipe import Recipe
from pipelines.config.recipe_inputs import with_overrides
from pipelines.config.sweep import LoadedSweep, Sweep
from pipelines.resolve.resolved_recipe import ResolvedRecipe, resolve

# KFP passes the trials as one parameter, and a longer one does not reach a process.
MAX_BYTES = 100_000


@dataclass(frozen=True)
class ResolvedSweep:
    """A sweep whose every input is pinned, as the pipeline takes it."""

    sweep: Sweep
    trials: list[dict[str, Any]]
    evaluate: dict[str, Any]
    publish: dict[str, Any]
    addresses: list[str]
    split_with_model: bool

    @property
    def fractions(self) -> list[float]:
        """The share of its steps to which a trial trains in each rung."""
        return [1.0] if self.sweep.halving is None else self.sweep.halving.fractions

    def arguments(self, checkpoint_root: Path | str) -> dict[str, Any]:
        """The pipeline's parameters."""
        splits = {json.dumps(item["split"], sort_keys=True): item["split"] for item in self.trials}
        return {
            "trials": self.trials,
            "splits": list(splits.values()),
            # Nothing is chosen by the test rows: they are read once, for the winner.
            "evaluate": {**self.evaluate, "test": True},
            "publish": self.publish,
            "compare": self.sweep.compare.model_dump(exclude_none=True),
            "reduction_factor": 1 if self.sweep.halving is None else self.sweep.halving.reduction_factor,
            "checkpoint_root": str(checkpoint_root),
        }


def resolve_sweep(
    loaded: LoadedSweep,
    workdir: Path,
    report: Callable[[str], None],
    *,
    check_bases: Callable[[list[tuple[BaseModelRef, str | list[str]]]], None],
    relocate: Callable[[ResolvedRecipe], ResolvedRecipe],
) -> ResolvedSweep:
    """Pin the inputs of every trial.

    ``check_bases`` gets each base model with the layers that are trained on it; ``relocate`` gives a recipe the
    addresses at which its steps find the inputs. ``report`` gets a line about each thing that takes time.

    Raises:
        RecipeError: the trials are too many for one parameter.
        LorryError: see ``resolve``.
    """
    inputs_of = {name: recipe.model_dump_json(exclude={"name", "train"}) for name, recipe in loaded.recipes.items()}
    known: dict[str, ResolvedRecipe] = {}
    for name, recipe in loaded.recipes.items():
        if inputs_of[name] not in known:
            known[inputs_of[name]] = resolve(recipe, workdir, report)
    uses = [
        (known[inputs_of[name]].base_model, recipe.train.lora_target_modules) for name, recipe in loaded.recipes.items()
    ]
    check_bases(uses)
    known = {inputs: relocate(resolved) for inputs, resolved in known.items()}
    items = [
        _item(name, loaded.settings[name], recipe, known[inputs_of[name]]) for name, recipe in loaded.recipes.items()
    ]
    if (size := len(json.dumps(items))) > MAX_BYTES:
        raise RecipeError(
            f"sweep {loaded.sweep.name}: {len(items)} trials take {size} bytes as one parameter of the pipeline, which "
            f"holds {MAX_BYTES}; try fewer at once: the next sweep reuses what finished"
        )
    resolved = list(known.values())
    return ResolvedSweep(
        sweep=loaded.sweep,
        trials=items,
        evaluate=resolved[0].arguments("")["evaluate"],
        publish=resolved[0].arguments("")["publish"],
        addresses=[address for one in resolved for address in one.addresses.values()],
        split_with_model=any(one.split.quality.measures_perplexity for one in resolved),
    )


def _item(name: str, settings: dict[str, Any], recipe: Recipe, inputs: ResolvedRecipe) -> dict[str, Any]:
    sections = inputs.model_copy(update={"train": recipe.train}).arguments("")
    trial = as_trial(name, settings, recipe, inputs)
    return {"trial": trial.model_dump(mode="json"), **{key: sections[key] for key in ("split", "base_model", "train")}}


def as_trial(name: str, settings: dict[str, Any], recipe: Recipe, resolved: ResolvedRecipe) -> Trial:
    """The record of a run's settings; its recipe is as a user would write it, with the addresses of the run."""
    addresses = {key: value for key, value in resolved.addresses.items() if key in recipe.addresses}
    if is_made(recipe.base_model):
        del addresses["base_model"]
    relocated = with_overrides(recipe, addresses)
    written = relocated.model_dump(mode="json", exclude_defaults=True)
    if pools := written.get("placement", {}).get("pools"):
        written["placement"]["pools"] = {
            key: own for key, own in pools.items() if recipe.placement.pools[key] != POOLS.get(key)
        }
    # A setting of the sweep is written also where it is the default; an address is there already.
    added = {key: value for key, value in settings.items() if key not in addresses and key not in written}
    for key, value in {**added, **_pins(resolved)}.items():
        way = key.split(".")
        section = written
        for part in way[:-1]:
            section = section[int(part)] if isinstance(section, list) else section.setdefault(part, {})
        section[way[-1]] = value
    data = [source.data for source in relocated.split.all_sources]
    settings = {key: addresses.get(key, value) for key, value in settings.items()}
    return Trial(name=name, settings=settings, data=data, recipe=written)


def _pins(resolved: ResolvedRecipe) -> dict[str, str]:
    """The revisions of inputs that are not on this machine, by key: a later run gets the same."""
    base = resolved.base_model
    pins = {} if base.is_local else {"base_revision": base.revision}
    if base.full_precision is not None and not base.full_precision.is_local:
        pins["full_precision_revision"] = base.full_precision.revision
    for given in resolved.inputs:
        if given.revision is not None and not is_local(given.address) and "decontamination" not in given.key:
            pins[given.revision_key] = given.revision
    return pins
