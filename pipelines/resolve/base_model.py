"""Pinning a recipe's base model: its revision, its size, and what an adapter on it merges into."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.artifacts.contracts import BaseModelRef, BaseSource
from components.errors import ModelError, RecipeError
from components.modeling.base_model import SOURCE_NAME, folder_revision
from components.storage.store import Store, in_bucket
from pipelines.config.addresses import claim_of, is_hub_id, is_made
from pipelines.config.recipe import Recipe
from pipelines.resolve.hub import ask_hub
from pipelines.resolve.made_bases import made_base


@dataclass(frozen=True)
class _Wanted:
    """A base model as the recipe names it, and the keys that it does so by."""

    key: str
    address: str
    revision_key: str
    revision: str | None


@dataclass(frozen=True)
class _Found:
    """A pinned model, and the model that it was made from according to its card."""

    ref: BaseModelRef
    made_from: str | None
    # Whether its config was read: what lies on a volume or in a bucket is not brought here for it.
    is_known: bool = True


def resolve_base(recipe: Recipe, workdir: Path, report: Callable[[str], None]) -> BaseModelRef:
    """Pin the base model and, where it is published in 4 bits, the full-precision one that the adapter merges into.

    Raises:
        ModelError: a model is not there or of no use, or the card of a 4-bit one names no base.
        RecipeError: what lies on a cluster's volume or in a bucket has no digest in the recipe.
    """
    if is_made(recipe.base_model):
        made = made_base(recipe.base_model, recipe.base_revision, workdir / "base-models", report)
        os.utime(made)  # by which `lorry gc` knows when it was last used
        found = _in_folder(made)
    else:
        found = _find(_Wanted("base_model", recipe.base_model, "base_revision", recipe.base_revision))
    if found.ref.quantization is None and recipe.full_precision_base is None:
        return found.ref
    if found.ref.quantization is None and found.is_known:
        raise RecipeError(
            f"full_precision_base = {recipe.full_precision_base!r}: base_model has full weights itself, and the "
            "adapter merges into those; leave full_precision_base out"
        )
    full = recipe.full_precision_base or found.made_from
    if full is None:
        raise ModelError(
            f"base_model {recipe.base_model}: is published in 4 bits, and its card does not name its base; "
            "name the model with the full weights in full_precision_base: an adapter merges into those only"
        )
    wanted = _Wanted("full_precision_base", full, "full_precision_revision", recipe.full_precision_revision)
    return found.ref.model_copy(update={"full_precision": _require_full(_find(wanted).ref)})


def _require_full(ref: BaseModelRef) -> BaseModelRef:
    if ref.quantization is not None:
        raise ModelError(f"full_precision_base {ref.address}: is published in 4 bits too; name one with full weights")
    return ref


def _find(wanted: _Wanted) -> _Found:
    if claim_of(wanted.address):
        ref = BaseModelRef(address=wanted.address, revision=_given(wanted), weight_bytes=0)
        return _Found(ref, None, is_known=False)
    if in_bucket(wanted.address):
        return _Found(_in_bucket(wanted), None, is_known=False)
    return _on_hub(wanted) if is_hub_id(wanted.address) else _in_folder(Path(wanted.address))


def _given(wanted: _Wanted) -> str:
    if wanted.revision is None:
        raise RecipeError(
            f"{wanted.key} = {wanted.address!r}: only the cluster can read it; give its sha256 in {wanted.revision_key}"
        )
    return wanted.revision


def _on_hub(wanted: _Wanted) -> _Found:
    from huggingface_hub import hf_hub_download, model_info

    def look_up() -> Any:
        return model_info(wanted.address, revision=wanted.revision, files_metadata=True)

    info = ask_hub("model", wanted.address, look_up, ModelError)
    weight_bytes = sum(file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(".safetensors"))
    if not weight_bytes:
        raise ModelError(f"{wanted.address}: has no safetensors weights; choose a base model that has them")
    config = ask_hub(
        "model", wanted.address, lambda: hf_hub_download(wanted.address, "config.json", revision=info.sha), ModelError
    )
    card = info.card_data.to_dict() if info.card_data else {}
    return _found(wanted.address, str(info.sha), weight_bytes, Path(config), card)


def _in_bucket(wanted: _Wanted) -> BaseModelRef:
    if wanted.revision is None:
        raise RecipeError(
            f"{wanted.key} = {wanted.address!r}: give its digest in {wanted.revision_key}, as lorry submit printed it"
        )
    store = Store(wanted.address)
    weights = [key for key in store.keys("") if key.endswith(".safetensors")]
    if not weights:
        raise ModelError(f"{wanted.address}: has no safetensors weights there; correct {wanted.key}")
    weight_bytes = sum(store.size_of(key) or 0 for key in weights)
    return BaseModelRef(address=wanted.address, revision=wanted.revision, weight_bytes=weight_bytes)


def _in_folder(folder: Path) -> _Found:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no base model there (no config.json); correct base_model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder}: has no safetensors weights; save the model with safetensors")
    weight_bytes = sum(path.stat().st_size for path in weights)
    found = _found(
        str(folder.absolute()),
        folder_revision(folder),
        weight_bytes,
        folder / "config.json",
        _card(folder / "README.md"),
    )
    if not (folder / SOURCE_NAME).is_file():
        return found
    try:
        made_from = BaseSource.model_validate_json((folder / SOURCE_NAME).read_bytes())
    except ValidationError as error:
        raise ModelError(
            f"{folder / SOURCE_NAME}: cannot be read ({error.errors()[0]['msg']}); remove the folder: it is made anew"
        ) from error
    return replace(found, ref=found.ref.model_copy(update=made_from.model_dump()))


def _card(readme: Path) -> dict[str, Any]:
    """The head of a model's card; empty where it is broken."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError  # type: ignore[import-untyped]

    if not readme.is_file():
        return {}
    try:
        head: dict[str, Any] = ModelCard.load(readme, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, YAMLError):
        return {}
    return head


def _found(address: str, revision: str, weight_bytes: int, config: Path, card: Mapping[str, Any]) -> _Found:
    """``card`` is the head of the model's card, as the hub defines it: ``license``, ``base_model`` and more."""
    made_from, named = card.get("base_model"), card.get("license")
    if isinstance(made_from, list):
        made_from = made_from[0] if len(made_from) == 1 else None
    ref = BaseModelRef(
        address=address,
        revision=revision,
        weight_bytes=weight_bytes,
        license=None if named is None else str(named),
        quantization=_quantization(address, config),
    )
    return _Found(ref, None if made_from is None else str(made_from))


def _quantization(address: str, config: Path) -> str | None:
    """How the weights are published: ``nf4`` or ``fp4`` by bitsandbytes, or None for full ones.

    Raises:
        ModelError: in another way, which nothing trains on here.
    """
    try:
        given = json.loads(config.read_text(encoding="utf-8")).get("quantization_config")
    except ValueError as error:
        raise ModelError(f"{address}: its config.json cannot be read ({error})") from error
    if given is None:
        return None
    method = given.get("quant_method", "bitsandbytes")
    if method != "bitsandbytes" or not given.get("load_in_4bit"):
        raise ModelError(
            f"{address}: its weights are quantized by {method}, not in 4 bits by bitsandbytes, and cannot be trained "
            "on here; choose full weights, or 4 bits by bitsandbytes"
        )
    return str(given.get("bnb_4bit_quant_type", "fp4"))
