"""The ``model.json`` beside a GGUF file: found, believed, and held against the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef, ModelManifest
from components.errors import ModelError
from components.gguf.file import check_file, model_in, read_manifest
from components.storage.digests import sha256_of
from tests.gguf_files import write


@pytest.fixture
def model(tmp_path) -> Path:
    """A file that passes, in a folder without a manifest."""
    return write(tmp_path / "model-Q8_0.gguf")


def describe(model: Path, **changes: Any) -> ModelManifest:
    """Write the manifest of a file, with ``changes``."""
    facts = {
        "file": model.name, "sha256": sha256_of(model), "size_bytes": model.stat().st_size, "f16_size_bytes": 10,
        "reduction": 0.5, "quantization": "Q8_0", "n_parameters": 1, "context_length": 64,
        "base_model": BaseModelRef(address="a/b", revision="r", weight_bytes=1), "base_license": None, "run_key": "k",
        "data_fingerprint": "d", "adapter_step": 1, "template_fingerprint": "t", "evaluation": {}, "converter": "c",
    }  # fmt: skip
    manifest = ModelManifest.model_validate({**facts, **changes})
    (model.parent / "model.json").write_text(manifest.model_dump_json())
    return manifest


def test_a_file_that_its_manifest_describes_passes_with_it(model):
    manifest = describe(model)
    checked = check_file(model)
    assert (checked.manifest, checked.context_length) == (manifest, 64)
    assert model_in(model.parent) == model


def test_without_a_manifest_the_file_is_checked_alone(model):
    assert check_file(model).manifest is None
    assert read_manifest(model) is None
    with pytest.raises(ModelError, match=r"holds no model\.json; give a \.gguf file, or a folder that an export made"):
        model_in(model.parent)


def test_a_manifest_of_another_file_says_nothing_of_this_one(model):
    describe(model, file="another.gguf", sha256="0" * 64)
    assert check_file(model).manifest is None
    assert model_in(model.parent) == model.parent / "another.gguf"


def test_a_file_of_another_size_is_refused_with_both_sizes(model):
    size = model.stat().st_size
    describe(model, size_bytes=size + 1)
    with pytest.raises(ModelError, match=rf"{size} bytes, but its model\.json says {size + 1}: .*copy or export it"):
        check_file(model)


def test_a_file_of_another_content_is_refused_with_both_digests(model):
    describe(model, sha256="ab" * 32)
    own = sha256_of(model)[:12]
    with pytest.raises(ModelError, match=rf"sha256 is {own}…, but its model\.json says abababababab…: .*copy or"):
        check_file(model)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"file": "model.gguf"}'])
def test_a_manifest_that_cannot_be_read_is_refused_and_named(model, content):
    (model.parent / "model.json").write_text(content)
    for read in (check_file, read_manifest, lambda path: model_in(path.parent)):
        with pytest.raises(ModelError, match=r"model\.json: cannot be read \(.+\); export the model again"):
            read(model)


@pytest.mark.parametrize("name", ["../model.gguf", "/etc/model.gguf", "a/b.gguf", "model.bin", ".gguf"])
def test_a_manifest_names_a_file_of_its_own_folder(model, name):
    describe(model)
    path = model.parent / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "file": name}))
    with pytest.raises(ModelError, match="cannot be read"):
        model_in(model.parent)


def test_a_file_is_checked_before_its_manifest_counts(model, tmp_path):
    with pytest.raises(ModelError, match=r"no such model file; give the path of a \.gguf file"):
        check_file(tmp_path / "none.gguf")
    describe(model)
    model.write_bytes(b"GGML" + model.read_bytes()[4:])
    with pytest.raises(ModelError, match=r"not a GGUF file \(it begins with b'GGML', not b'GGUF'\)"):
        check_file(model)
