"""Models in a store: ``models/<sha256>/`` holds one, ``models/current.json`` names the newest."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from components.artifacts.contracts import MANIFEST_NAME, Contract, ModelManifest, Sha256
from components.errors import ModelError
from components.storage.store import Store

CURRENT_KEY = "models/current.json"


class Current(Contract):
    """Which model of a store is the newest, and the recipe that made it."""

    schema_version: Literal[1] = 1
    sha256: Sha256
    recipe: str


def key_of(sha256: str, name: str) -> str:
    """The key of one file of a model."""
    return f"models/{sha256}/{name}"


def published_manifest(store: Store, sha256: str) -> ModelManifest | None:
    """The manifest of a model, or None. It is written last, so a model that has one is complete.

    Raises:
        StoreError: the store refuses or does not answer.
        ModelError: it cannot be read, or is of another model.
    """
    key = key_of(sha256, MANIFEST_NAME)
    try:
        manifest = ModelManifest.model_validate_json(store.read(key))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ModelError(
            f"{store.address_of(key)}: cannot be read ({error.errors()[0]['msg']}); publish the model again"
        ) from error
    if manifest.sha256 != sha256:
        raise ModelError(
            f"{store.address_of(key)}: is the manifest of model {manifest.sha256}; the store was changed by hand, "
            "publish the model again"
        )
    return manifest


def require_manifest(store: Store, sha256: str) -> ModelManifest:
    """The manifest of a model that must exist.

    Raises:
        StoreError: the store refuses or does not answer.
        ModelError: there is no such model; the message names those of the store.
    """
    manifest = published_manifest(store, sha256)
    if manifest is None:
        present = published(store)
        known = (
            f"it holds {', '.join(present)}" if present else "it holds no model yet; run a recipe that publishes there"
        )
        raise ModelError(f"{store.address}: no model {sha256}; {known}")
    return manifest


def published(store: Store) -> list[str]:
    """The digests of all models in a store."""
    return [key.split("/")[-2] for key in store.keys("models") if key.endswith(f"/{MANIFEST_NAME}")]


def has_current(store: Store) -> bool:
    """Whether a model was ever published in a store.

    Raises:
        StoreError: the store refuses or does not answer.
    """
    return store.size_of(CURRENT_KEY) is not None


def current(store: Store) -> Current:
    """The newest model of a store.

    Raises:
        ModelError: none was published yet.
    """
    try:
        return Current.model_validate_json(store.read(CURRENT_KEY))
    except FileNotFoundError:
        raise ModelError(f"{store.address}: no model was published there yet; run a recipe that does") from None
    except ValidationError as error:
        raise ModelError(
            f"{store.address_of(CURRENT_KEY)}: cannot be read ({error.errors()[0]['msg']}); publish a model again"
        ) from error
