"""A model is put into the store and fetched from it completely or not at all, by its digest."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from components.artifacts.contracts import MANIFEST_NAME
from components.errors import ModelError, StoreError
from components.fetch_model.fetch import fetch
from components.storage.digests import sha256_of
from components.storage.published_models import current, published
from components.storage.store import Store
from tests.components.publish_model.models import CONTENT, FILE, put, write_model


def test_a_published_model_is_current_and_is_fetched_by_its_digest(address, model, tmp_path):
    sha256 = put(model, address)
    store = Store(address)
    assert (current(store).sha256, current(store).recipe, published(store)) == (sha256, "tiny", [sha256])
    manifest = fetch(address, sha256, tmp_path / "fetched")
    assert sha256_of(tmp_path / "fetched" / manifest.file) == sha256
    assert sorted(path.name for path in (tmp_path / "fetched").iterdir()) == [manifest.file, MANIFEST_NAME]


def test_publishing_again_replaces_what_was_damaged_in_the_store(address, model, tmp_path):
    sha256 = put(model, address)
    Store(address).put_bytes(f"models/{sha256}/{FILE}", b"x" * len(CONTENT))
    assert put(model, address) == sha256
    Store(address).put_bytes(f"models/{sha256}/{MANIFEST_NAME}", b"not JSON")
    assert put(model, address) == sha256
    fetch(address, sha256, tmp_path / "fetched")


def test_fetching_a_manifest_without_its_file_is_an_error(address, model, tmp_path):
    sha256 = put(model, address)
    manifest = (model / MANIFEST_NAME).read_bytes()
    other = f"{address}-other"
    Store(other, create=True).put_bytes(f"models/{sha256}/{MANIFEST_NAME}", manifest)
    with pytest.raises(ModelError, match="the store has the model's manifest but not its file; publish it again"):
        fetch(other, sha256, tmp_path / "fetched")


def test_publishing_again_sends_nothing_but_moves_the_pointer_back(address, model, caplog):
    caplog.set_level("INFO")
    sha256 = put(model, address)
    Store(address).put_bytes("models/current.json", json.dumps({"sha256": "f" * 64, "recipe": "other"}).encode())
    caplog.clear()
    assert put(model, address) == sha256
    assert f"{sha256} is in the store already" in caplog.text
    assert current(Store(address)).sha256 == sha256


def test_a_model_that_was_half_sent_is_sent_again_completely(address, model, tmp_path):
    path = model / FILE
    Store(address, create=True).put_bytes(f"models/{sha256_of(path)}/{path.name}", path.read_bytes()[:1000])
    assert published(Store(address)) == []
    sha256 = put(model, address)
    fetch(address, sha256, tmp_path / "fetched")


def test_a_model_that_is_not_in_the_store_names_those_that_are(address, model, tmp_path):
    Store(address, create=True)
    with pytest.raises(ModelError, match=r"no model 1111.*; it holds no model yet; run a recipe that publishes there"):
        fetch(address, "1" * 64, tmp_path / "fetched")
    sha256 = put(model, address)
    with pytest.raises(ModelError, match=f"no model {'1' * 64}; it holds {sha256}"):
        fetch(address, "1" * 64, tmp_path / "fetched")


def test_a_file_that_was_changed_in_the_store_does_not_reach_its_final_name(address, model, tmp_path):
    sha256 = put(model, address)
    Store(address).put_bytes(f"models/{sha256}/{FILE}", CONTENT[:-1] + b"x")
    with pytest.raises(StoreError, match=f"not {sha256}: the file in the store was changed or damaged"):
        fetch(address, sha256, tmp_path / "fetched")
    assert list((tmp_path / "fetched").iterdir()) == []


def test_a_manifest_that_names_a_path_is_refused(address, model, tmp_path):
    sha256 = put(model, address)
    manifest = json.loads((model / MANIFEST_NAME).read_text())
    hostile = json.dumps({**manifest, "file": "../../escaped.gguf"}).encode()
    Store(address).put_bytes(f"models/{sha256}/{MANIFEST_NAME}", hostile)
    with pytest.raises(ModelError, match="cannot be read"):
        fetch(address, sha256, tmp_path / "fetched")


def test_two_models_stand_beside_each_other_and_the_newest_is_current(address, model, tmp_path):
    first = put(model, address)
    second = put(write_model(tmp_path / "second", b"GGUF other"), address)
    assert sorted(published(Store(address))) == sorted([first, second])
    assert current(Store(address)).sha256 == second


def test_the_init_containers_command_takes_its_settings_from_the_environment(model, tmp_path):
    sha256 = put(model, str(tmp_path / "store"))
    environment = {
        **os.environ,
        "LORRY_STORE": str(tmp_path / "store"),
        "LORRY_MODEL_SHA256": sha256,
        "LORRY_MODEL": str(tmp_path / "models"),
    }
    command = [sys.executable, "-m", "components.fetch_model"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"the sha256 is {sha256}, as expected" in done.stderr
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "is downloaded already" in again.stderr
    missing = {**environment, "LORRY_MODEL_SHA256": "2" * 64}
    refused = subprocess.run(command, env=missing, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == f"error: {tmp_path / 'store'}: no model {'2' * 64}; it holds {sha256}"
