"""What publishing writes into the store, and which folders it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.artifacts.contracts import MANIFEST_NAME
from components.errors import ModelError
from components.publish_model.config import PublishConfig
from components.publish_model.publish import figures_key, publish_figures
from components.storage.published_models import current, published_manifest
from components.storage.store import Store
from tests.components.publish_model.models import FILE, put, write_model


def refused(folder: Path, tmp_path: Path) -> str:
    """The error, after which the store has no model."""
    with pytest.raises(ModelError) as caught:
        put(folder, str(tmp_path / "store"))
    with pytest.raises(ModelError, match="no model was published there yet"):
        current(Store(str(tmp_path / "store"), create=True))
    return str(caught.value)


def test_figures_of_the_exported_file_are_added_to_its_manifest(model, tmp_path):
    store = str(tmp_path / "store")
    sha256 = put(model, store)
    assert published_manifest(Store(store), sha256).evaluation == {"loss": 1.5}
    # The file is in the store; its manifest is written again with the new figures.
    put(model, store, measured={"kl_divergence": 0.1, "loss": 1.4})
    assert published_manifest(Store(store), sha256).evaluation == {"loss": 1.4, "kl_divergence": 0.1}
    put(model, store)
    assert published_manifest(Store(store), sha256).evaluation == {"loss": 1.4, "kl_divergence": 0.1}


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    assert "holds no model.json; export the model again" in refused(tmp_path / "model", tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", '{"file": "../x.gguf"}'])
def test_a_manifest_that_cannot_be_read_is_refused(model, tmp_path, content):
    (model / MANIFEST_NAME).write_text(content)
    message = refused(model, tmp_path)
    assert message.startswith(f"{model / MANIFEST_NAME}: cannot be read (")
    assert message.endswith("export the model again")


def test_a_folder_without_the_file_of_its_manifest_is_refused(model, tmp_path):
    (model / FILE).unlink()
    assert f"holds no {FILE}" in refused(model, tmp_path)


def test_a_file_with_another_digest_than_its_manifests_is_refused_with_both(model, tmp_path):
    (model / FILE).write_bytes(b"GGUF other")
    message = refused(model, tmp_path)
    sha256 = json.loads((model / MANIFEST_NAME).read_text())["sha256"]
    assert f"not {sha256}; export it again" in message


def test_the_figures_of_a_run_are_under_its_name(tmp_path):
    store = str(tmp_path / "store")
    publish_figures(PublishConfig(store=store), "run-1", {"gate": {"loss": 0.5}, "model": {"sha256": "x"}})
    assert figures_key("run-1") == "runs/run-1.json"
    assert json.loads(Store(store).read("runs/run-1.json")) == {"gate": {"loss": 0.5}, "model": {"sha256": "x"}}


@pytest.mark.parametrize("store", ["s3://bucket/folder", "gs://b", "pvc://claim/folder", "/data/store", None])
def test_stores_are_buckets_claims_and_folders(store):
    assert PublishConfig(store=store).store == store


@pytest.mark.parametrize("store", ["s3://", "http://x", "relative/folder", "", "pvc://-x"])
def test_other_addresses_are_no_stores(store):
    with pytest.raises(ValidationError, match="store"):
        PublishConfig(store=store)


def test_a_relative_path_cannot_leave_the_manifests_folder(tmp_path):
    with pytest.raises(ValidationError, match="file"):
        write_model(tmp_path / "model", file="../x.gguf")
