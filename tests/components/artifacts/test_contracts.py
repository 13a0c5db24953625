"""The documents that the parts exchange: what they accept, and what is left out of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.artifacts.contracts import (
    BaseModelRef,
    GenerationDefaults,
    Message,
    ModelManifest,
    Trial,
)

BASE = BaseModelRef(address="org/model", revision="r", weight_bytes=0)
MANIFEST: dict[str, Any] = {
    "file": "model-Q8_0.gguf", "sha256": "a" * 64, "size_bytes": 1, "f16_size_bytes": 2, "reduction": 0.5,
    "quantization": "Q8_0", "n_parameters": 1, "context_length": 8, "base_model": BASE, "base_license": None,
    "run_key": "k", "data_fingerprint": "d", "adapter_step": 1, "template_fingerprint": "t", "evaluation": {},
    "converter": "c 1",
}  # fmt: skip


def test_a_message_has_no_keys_for_what_is_not_set():
    assert Message(role="user", content="Hi").model_dump() == {"role": "user", "content": "Hi"}
    assert Message(role="assistant", content="", weight=0).model_dump() == {
        "role": "assistant", "content": "", "weight": 0,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"role": "bot"}, {"weight": 2}, {"unknown": 1}, {"content": None}])
def test_a_message_of_another_form_is_refused(change):
    with pytest.raises(ValidationError):
        Message.model_validate({"role": "user", "content": "Hi", **change})


def test_documents_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        BASE.address = "other"  # type: ignore[misc]


def test_an_adapter_merges_into_the_full_model_where_there_is_one():
    packed = BASE.model_copy(update={"quantization": "nf4", "full_precision": BASE})
    assert packed.to_merge_into is BASE
    assert BASE.to_merge_into is BASE


@pytest.mark.parametrize(("address", "is_local"), [("/models/a", True), ("org/a", False), ("s3://bucket/a", False)])
def test_an_absolute_path_is_local(address, is_local):
    assert BASE.model_copy(update={"address": address}).is_local is is_local


@pytest.mark.parametrize("name", ["../m.gguf", "a/b.gguf", "m.bin", ".gguf", "/m.gguf", "m.gguf\n"])
def test_a_manifest_names_a_file_and_no_path(name):
    with pytest.raises(ValidationError, match="file"):
        ModelManifest.model_validate({**MANIFEST, "file": name})


@pytest.mark.parametrize(
    "change",
    [{"sha256": "A" * 64}, {"sha256": "a" * 63}, {"quantization": "Q2_K"}, {"schema_version": 2}, {"name": "-x"},
     {"name": "a/b"}, {"example_prompts": ["x"] * 9}, {"example_prompts": [""]}],
)  # fmt: skip
def test_a_manifest_out_of_bounds_is_refused(change):
    with pytest.raises(ValidationError):
        ModelManifest.model_validate({**MANIFEST, **change})


def test_a_manifest_has_defaults_for_what_older_ones_lack():
    manifest = ModelManifest.model_validate(MANIFEST)
    assert (manifest.name, manifest.example_prompts, manifest.generation) == (None, [], GenerationDefaults())


def test_defaults_keep_values_within_bounds_and_name_the_others():
    values = {"temperature": 0.6, "top_p": 1.5, "top_k": -1, "max_tokens": 10, "unknown": 3, "min_p": None}
    kept, left_out = GenerationDefaults.within_bounds(values)
    assert kept == GenerationDefaults(temperature=0.6, max_tokens=10)
    assert left_out == ["top_k", "top_p"]


def test_values_that_are_set_override_defaults():
    defaults = GenerationDefaults(temperature=0.6, top_p=0.9)
    assert defaults.overridden_by({"temperature": 0.0, "top_p": None}) == GenerationDefaults(temperature=0.0, top_p=0.9)
    assert defaults.overridden_by({}) == defaults
    assert defaults.overridden_by({"unknown": 1}) == defaults


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [("lora_rank=8,seed=1", True), ("a.b-c_d", True), ("", False), ("-a", False), ("a/b", False), ("a" * 121, False)],
)
def test_a_trials_name_fits_a_file_and_a_label(name, is_valid):
    document = {"name": name, "settings": {}, "data": [], "recipe": {}}
    if is_valid:
        assert Trial.model_validate(document).name == name
    else:
        with pytest.raises(ValidationError):
            Trial.model_validate(document)
