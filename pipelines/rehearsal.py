"""What a recipe's own files say before anything is sent or run: a split that cannot be filled is known here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from components.errors import DataError, RecipeError
from components.split_data.config import SplitConfig
from components.split_data.sources import local_data
from pipelines.addresses import is_local
from pipelines.recipe import Recipe

# More is read by the run alone: a check should take seconds.
MAX_BYTES = 64 * 1024 * 1024


def rehearse_splits(recipes: Iterable[Recipe]) -> None:
    """``rehearse_split`` for each split of a sweep's recipes, once.

    Raises:
        RecipeError: see there.
    """
    for split in {recipe.split.model_dump_json(): recipe.split for recipe in recipes}.values():
        rehearse_split(split)


def rehearse_split(config: SplitConfig) -> bool:
    """Split the recipe's data in memory where all of it lies on this machine; True when that was done.

    What takes a base model (bounds on tokens and perplexity) is left out, so a run can still have fewer rows.

    Raises:
        RecipeError: the split asks for more rows than there are, or the data cannot be used.
    """
    addresses = [source.data for source in config.all_sources] + list(config.leaks.files)
    if not all(is_local(address) for address in addresses):
        return False
    try:
        files = [path for source in config.all_sources for path in local_data(source.data, source.data_revision) or ()]
        if sum(Path(path).stat().st_size for path in files) > MAX_BYTES:
            return False
        from components.split_data.split import rehearse

        bounds = dict.fromkeys(("min_tokens", "max_tokens", "min_perplexity", "max_perplexity"))
        rehearse(config.model_copy(update={"quality": config.quality.model_copy(update=bounds)}))
    except DataError as error:
        raise RecipeError(f"split: {error}") from error
    return True
