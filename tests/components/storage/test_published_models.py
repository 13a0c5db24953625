"""Models in a store: their manifests, the newest one, and what damaged or missing documents say."""

from __future__ import annotations

import json

import pytest

from components.artifacts.contracts import MANIFEST_NAME, BaseModelRef, ModelManifest
from components.errors import ModelError
from components.storage.published_models import (
    CURRENT_KEY,
    Current,
    current,
    has_current,
    key_of,
    published,
    published_manifest,
    require_manifest,
)
from components.storage.store import Store

SHA256, OTHER = "a" * 64, "b" * 64


def manifest(sha256: str = SHA256) -> ModelManifest:
    return ModelManifest(
        file="model-Q8_0.gguf", sha256=sha256, size_bytes=1, f16_size_bytes=2, reduction=0.5, quantization="Q8_0",
        n_parameters=1, context_length=8, base_model=BaseModelRef(address="b", revision="r", weight_bytes=2),
        base_license=None, run_key="k", data_fingerprint="d", adapter_step=1, template_fingerprint="t", evaluation={},
        converter="c 1",
    )  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"), create=True)


def publish(store: Store, sha256: str = SHA256) -> None:
    store.put_bytes(key_of(sha256, MANIFEST_NAME), manifest(sha256).model_dump_json().encode())


def test_an_empty_store_has_no_models_and_no_current_one(store):
    assert published(store) == []
    assert published_manifest(store, SHA256) is None
    assert not has_current(store)
    with pytest.raises(ModelError, match=f"{store.address}: no model was published there yet"):
        current(store)


def test_a_published_model_is_found_by_its_digest(store):
    publish(store)
    assert published_manifest(store, SHA256) == manifest()
    assert require_manifest(store, SHA256) == manifest()


def test_a_model_without_its_manifest_is_not_published_yet(store):
    store.put_bytes(key_of(OTHER, "model-Q8_0.gguf"), b"weights")
    assert published(store) == []
    assert published_manifest(store, OTHER) is None


def test_a_missing_model_is_named_with_those_of_the_store(store):
    with pytest.raises(ModelError, match=f"no model {OTHER}; it holds no model yet; run a recipe that publishes there"):
        require_manifest(store, OTHER)
    publish(store)
    with pytest.raises(ModelError, match=f"no model {OTHER}; it holds {SHA256}$"):
        require_manifest(store, OTHER)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"sha256": "short"}'])
def test_a_manifest_that_cannot_be_read_names_its_address(store, content):
    store.put_bytes(key_of(SHA256, MANIFEST_NAME), content)
    with pytest.raises(ModelError, match=f"{store.address}/models/{SHA256}/model.json: cannot be read"):
        published_manifest(store, SHA256)


def test_a_manifest_of_another_model_is_refused(store):
    store.put_bytes(key_of(SHA256, MANIFEST_NAME), manifest(OTHER).model_dump_json().encode())
    with pytest.raises(ModelError, match=f"is the manifest of model {OTHER}; the store was changed by hand"):
        published_manifest(store, SHA256)


def test_the_current_model_is_the_one_that_the_pointer_names(store):
    store.put_bytes(CURRENT_KEY, Current(sha256=SHA256, recipe="demo").model_dump_json().encode())
    assert has_current(store)
    assert current(store) == Current(sha256=SHA256, recipe="demo")


@pytest.mark.parametrize("change", [{"sha256": "x"}, {"schema_version": 2}, {"unknown": 1}])
def test_a_pointer_that_cannot_be_read_names_its_address(store, change):
    document = {"schema_version": 1, "sha256": SHA256, "recipe": "demo", **change}
    store.put_bytes(CURRENT_KEY, json.dumps(document).encode())
    with pytest.raises(ModelError, match=f"{store.address}/{CURRENT_KEY}: cannot be read .*; publish a model again"):
        current(store)
