"""Inputs of this machine put where a pod can read them: into the store, under their digest."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from components.base_model import model_files
from components.errors import RecipeError
from components.store import Store
from pipelines.addresses import claim_of, is_local
from pipelines.resolve import ResolvedRecipe


def upload_inputs(recipe: ResolvedRecipe, tell: Callable[[str], None]) -> ResolvedRecipe:
    """The recipe with every input where a pod finds it; what the store has already is not sent again.

    ``tell`` gets a line for each file that is sent.

    Raises:
        RecipeError: the recipe names no store that pods reach, or one that only pods reach.
        StoreError: the store refuses or does not answer.
    """
    address = recipe.publish.store
    if address is None or is_local(address):
        raise RecipeError(
            f"publish.store = {address!r}: a cluster needs a store that its pods reach; give s3://bucket/folder, "
            "gs://bucket/folder or pvc://claim/folder"
        )
    local = {key: value for key, value in recipe.addresses.items() if is_local(value)}
    if not local:
        return recipe
    if claim := claim_of(address):
        raise RecipeError("\n".join(_by_hand(recipe, claim, address)))
    store = Store(address, make=True)
    for key in local:
        for path, target in _files(recipe, key):
            if store.size_of(target) != path.stat().st_size:
                tell(f"{store.address_of(target)}: sending {path.stat().st_size / 1e6:.1f} MB")
                store.put(target, path)
    return recipe.with_addresses({key: store.address_of(_place(recipe, key)) for key in local})


def _place(recipe: ResolvedRecipe, key: str) -> str:
    """Where an input lies in the store."""
    if key == "base_model":
        return f"base-models/{recipe.base_model.revision}"
    revision = recipe.split.data_revision if key == "split.data" else recipe.evaluate.prompts_revision
    return f"inputs/{revision}/{Path(recipe.addresses[key]).name}"


def _files(recipe: ResolvedRecipe, key: str) -> Iterator[tuple[Path, str]]:
    path, place = Path(recipe.addresses[key]), _place(recipe, key)
    if key == "base_model":
        yield from ((file, f"{place}/{file.name}") for file in model_files(path))
    else:
        yield path, place


def _by_hand(recipe: ResolvedRecipe, claim: str, store: str) -> Iterator[str]:
    """What a person does where this machine does not reach the store."""
    revisions = {
        "base_model": ("base_revision", recipe.base_model.revision),
        "split.data": ("split.data_revision", recipe.split.data_revision),
        "evaluate.prompts": ("evaluate.prompts_revision", recipe.evaluate.prompts_revision),
    }
    folder = store.removeprefix(f"pvc://{claim}").strip("/")
    for key, address in recipe.addresses.items():
        if not is_local(address):
            continue
        place = "/".join(filter(None, (folder, _place(recipe, key))))
        revision_key, revision = revisions[key]
        yield (
            f"{key} = {address!r}: lies on this machine, and the store is a volume; copy it there through the pod "
            f"store-shell (manifests/overlays/local/store-shell): kubectl -n kubeflow exec store-shell -- mkdir -p "
            f"/volumes/{claim}/{place.rpartition('/')[0]} && kubectl -n kubeflow cp {shlex.quote(address)} "
            f"store-shell:/volumes/{claim}/{place} ; then set "
            f"{key}: pvc://{claim}/{place} and {revision_key}: {revision}"
        )
