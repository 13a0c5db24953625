"""Inputs of this machine put where a pod can read them: into the store, under their digest."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from components.artifacts.contracts import BaseModelRef
from components.errors import RecipeError
from components.modeling.base_model import model_files
from components.split_data.sources import data_files
from components.storage.published_models import CURRENT_KEY
from components.storage.store import Store, in_bucket
from pipelines.config.addresses import claim_of, is_local
from pipelines.resolve.resolved_recipe import ResolvedRecipe

_BASE_REVISIONS = {"base_model": "base_revision", "full_precision_base": "full_precision_revision"}


def require_store(address: str | None) -> None:
    """Check that a recipe's store is one that pods reach and, where it is a bucket, that it answers this machine.

    Raises:
        RecipeError: it is none that pods reach.
        StoreError: the bucket refuses or does not answer.
    """
    if address is None or is_local(address):
        given = "publish.store is missing" if address is None else f"publish.store = {address!r}: lies on this machine"
        raise RecipeError(
            f"{given}; a cluster needs a store that its pods reach: give --store, or publish.store in the recipe, as "
            "s3://bucket/folder, gs://bucket/folder or pvc://claim/folder"
        )
    if in_bucket(address):
        Store(address).size_of(CURRENT_KEY)


def upload_inputs(recipe: ResolvedRecipe, namespace: str, report: Callable[[str], None]) -> ResolvedRecipe:
    """The recipe with every input where a pod finds it; what the store has already is not sent again.

    ``report`` gets a line for each file that is sent; ``namespace`` is where pipelines run.

    Raises:
        RecipeError: only pods reach the store; the message has the command that puts the files there.
        StoreError: the store refuses or does not answer.
    """
    address = recipe.publish.store
    assert address is not None  # see require_store
    local = {key: value for key, value in recipe.addresses.items() if is_local(value)}
    if not local:
        return recipe
    if claim := claim_of(address):
        raise RecipeError("\n".join(_by_hand(recipe, claim, address, namespace)))
    store = Store(address, create=True)
    for key in local:
        for path, target in _files(recipe, key):
            if store.size_of(target) != path.stat().st_size:
                report(f"{store.address_of(target)}: sending {path.stat().st_size / 1e6:.1f} MB")
                store.put(target, path)
    return recipe.with_addresses({key: store.address_of(_path_in_store(recipe, key)) for key in local})


def _bases(recipe: ResolvedRecipe) -> dict[str, BaseModelRef]:
    """The base models by their keys in the recipe."""
    full = recipe.base_model.full_precision
    return {"base_model": recipe.base_model} | ({"full_precision_base": full} if full else {})


def _path_in_store(recipe: ResolvedRecipe, key: str) -> str:
    """Where an input lies in the store."""
    if key in _bases(recipe):
        return f"base-models/{_bases(recipe)[key].revision}"
    given = next(given for given in recipe.inputs if given.key == key)
    return f"inputs/{given.revision}/{Path(given.address).name}"


def _files(recipe: ResolvedRecipe, key: str) -> Iterator[tuple[Path, str]]:
    path, relative = Path(recipe.addresses[key]), _path_in_store(recipe, key)
    if key in _bases(recipe):
        yield from ((file, f"{relative}/{file.name}") for file in model_files(path))
    elif path.is_dir():
        yield from ((file, f"{relative}/{file.name}") for file in data_files(path))
    else:
        yield path, relative


def _by_hand(recipe: ResolvedRecipe, claim: str, store: str, namespace: str) -> Iterator[str]:
    """What a person does where this machine does not reach the store."""
    revisions = {
        **{key: (_BASE_REVISIONS[key], base.revision) for key, base in _bases(recipe).items()},
        **{given.key: (given.revision_key, given.revision) for given in recipe.inputs},
    }
    folder = store.removeprefix(f"pvc://{claim}").strip("/")
    for key, address in recipe.addresses.items():
        if not is_local(address):
            continue
        relative = "/".join(filter(None, (folder, _path_in_store(recipe, key))))
        revision_key, revision = revisions[key]
        yield (
            f"{key} = {address!r}: lies on this machine, and the store is a volume; copy it there through the pod "
            f"store-shell (manifests/overlays/volume/store-shell): kubectl -n {namespace} exec store-shell -- mkdir -p "
            f"/volumes/{claim}/{relative.rpartition('/')[0]} && kubectl -n {namespace} cp {shlex.quote(address)} "
            f"store-shell:/volumes/{claim}/{relative} ; then set "
            f"{key}: pvc://{claim}/{relative} and {revision_key}: {revision}"
        )
