"""A model is downloaded once, and ``model.json`` marks it as complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.artifacts.contracts import MANIFEST_NAME
from components.errors import ModelError, StoreError
from components.fetch_model import fetch as module
from components.fetch_model.fetch import fetch
from tests.components.publish_model.models import CONTENT, FILE, put, write_model


@pytest.fixture
def store(tmp_path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def sha256(store, tmp_path) -> str:
    return put(write_model(tmp_path / "model"), store)


@pytest.fixture
def downloads(monkeypatch) -> list[Path]:
    """The files that are downloaded from here on."""
    targets: list[Path] = []
    download = module.download

    def counted(*arguments) -> None:
        targets.append(arguments[2])
        download(*arguments)

    monkeypatch.setattr(module, "download", counted)
    return targets


def test_the_folder_gets_the_file_and_the_manifest_of_the_store(store, sha256, tmp_path):
    manifest = fetch(store, sha256, tmp_path / "pod")
    assert (tmp_path / "pod" / FILE).read_bytes() == CONTENT
    assert json.loads((tmp_path / "pod" / MANIFEST_NAME).read_bytes()) == json.loads(manifest.model_dump_json())


def test_a_model_that_is_there_is_not_downloaded_again(store, sha256, tmp_path, downloads):
    for _ in range(2):
        fetch(store, sha256, tmp_path / "pod")
    assert downloads == [tmp_path / "pod" / FILE]


def test_a_file_that_was_damaged_is_downloaded_again(store, sha256, tmp_path, downloads):
    fetch(store, sha256, tmp_path / "pod")
    (tmp_path / "pod" / FILE).write_bytes(b"damaged")
    fetch(store, sha256, tmp_path / "pod")
    assert (tmp_path / "pod" / FILE).read_bytes() == CONTENT
    assert len(downloads) == 2


def test_the_manifest_is_renewed_where_the_stores_has_new_figures(store, sha256, tmp_path):
    fetch(store, sha256, tmp_path / "pod")
    put(tmp_path / "model", store, measured={"kl_divergence": 0.1})
    fetch(store, sha256, tmp_path / "pod")
    assert json.loads((tmp_path / "pod" / MANIFEST_NAME).read_bytes())["evaluation"]["kl_divergence"] == 0.1


def test_without_a_whole_file_there_is_no_manifest(store, sha256, tmp_path):
    (tmp_path / "store" / "models" / sha256 / FILE).write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(StoreError, match="changed or damaged"):
        fetch(store, sha256, tmp_path / "pod")
    assert not (tmp_path / "pod" / MANIFEST_NAME).exists()


def test_a_store_without_the_model_or_its_file_is_an_error(store, sha256, tmp_path):
    with pytest.raises(ModelError, match=f"no model {'1' * 64}; it holds {sha256}"):
        fetch(store, "1" * 64, tmp_path / "pod")
    (tmp_path / "store" / "models" / sha256 / FILE).unlink()
    with pytest.raises(ModelError, match="the model's manifest but not its file; publish it again"):
        fetch(store, sha256, tmp_path / "pod")
