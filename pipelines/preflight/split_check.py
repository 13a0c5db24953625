"""A recipe's own files checked before anything is sent or run, such as whether its split can be filled."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from components.artifacts.contracts import BaseModelRef
from components.errors import DataError, RecipeError
from components.split_data.config import SplitConfig
from components.split_data.sources import local_data
from pipelines.config.addresses import is_local, is_made
from pipelines.config.recipe import Recipe
from pipelines.preflight.base_check import require_usable_bases
from pipelines.resolve.base_model import resolve_base

# More is read by the run alone: a check should take seconds.
MAX_BYTES = 64 * 1024 * 1024


def check_recipes(recipes: Iterable[Recipe], report: Callable[[str], None]) -> None:
    """Check base models that are folders of this machine, and the splits of ``recipes``, each once.

    Raises:
        RecipeError: see ``check_split``.
        ModelError: a base model cannot be trained or served.
    """
    splits: dict[str, tuple[SplitConfig, BaseModelRef | None]] = {}
    with tempfile.TemporaryDirectory(prefix="lorry-check-") as folder:
        uses = []
        bases: dict[tuple[str, str | None], BaseModelRef] = {}
        for recipe in recipes:
            base = None
            if _is_whole_here(recipe):
                key = (recipe.base_model, recipe.base_revision)
                base = bases.get(key) or bases.setdefault(key, resolve_base(recipe, Path(folder), report))
                uses.append((base, recipe.train.lora_target_modules))
            splits[f"{recipe.base_model} {recipe.split.model_dump_json()}"] = recipe.split, base
        require_usable_bases(uses, report)
    for split, base in splits.values():
        check_split(split, base)


def _is_whole_here(recipe: Recipe) -> bool:
    """Whether the base is a folder of this machine with full weights: nothing is fetched to know it."""
    if not is_local(recipe.base_model) or is_made(recipe.base_model) or recipe.full_precision_base is not None:
        return False
    config = Path(recipe.base_model) / "config.json"
    return config.is_file() and '"quantization_config"' not in config.read_text(encoding="utf-8", errors="replace")


def check_splits(recipes: Iterable[Recipe]) -> None:
    """``check_split`` for each split of a sweep's recipes, once.

    Raises:
        RecipeError: see there.
    """
    for split in {recipe.split.model_dump_json(): recipe.split for recipe in recipes}.values():
        check_split(split)


def check_split(config: SplitConfig, base_model: BaseModelRef | None = None) -> bool:
    """Split the recipe's data in memory where all of it lies on this machine; True when that was done.

    Without ``base_model`` no row is dropped for its chat template. Bounds on tokens and perplexity are left out, so a
    run can still have fewer rows.

    Raises:
        RecipeError: the split asks for more rows than there are, or the data cannot be used.
    """
    addresses = [source.data for source in config.all_sources] + list(config.decontamination.files)
    if not all(is_local(address) for address in addresses):
        return False
    try:
        files = [path for source in config.all_sources for path in local_data(source.data, source.data_revision) or ()]
        if sum(Path(path).stat().st_size for path in files) > MAX_BYTES:
            return False
        from components.split_data.split import dry_run as split_in_memory

        bounds = dict.fromkeys(("min_tokens", "max_tokens", "min_perplexity", "max_perplexity"))
        quality = config.quality.model_copy(update=bounds)
        base = base_model if importlib.util.find_spec("transformers") else None
        split_in_memory(config.model_copy(update={"quality": quality, "base_model": base}))
    except DataError as error:
        raise RecipeError(f"split: {error}") from error
    return True
