"""Loading a base model: which files count, what its authors' settings become, and errors that name it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.artifacts.contracts import BaseModelRef, GenerationDefaults
from components.errors import ModelError
from components.modeling import base_model as module
from components.modeling.base_model import (
    copy_tokenizer_files,
    folder_of,
    folder_revision,
    load_config,
    load_generation,
    load_tokenizer,
    load_weights,
    model_files,
    tokens_without_rows,
)


@pytest.fixture
def folder(tiny_base, tmp_path) -> Path:
    """A copy of the tiny base that a test may change."""
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def ref(folder: Path | str, **rest: Any) -> BaseModelRef:
    return BaseModelRef(address=str(folder), revision="", weight_bytes=0, **rest)


def test_only_the_files_that_are_read_count_for_the_revision(folder):
    before = folder_revision(folder)
    for name in ("README.md", "training_args.bin", "weights.pt", ".gitattributes"):
        (folder / name).write_text("x")
    assert folder_revision(folder) == before
    assert {path.suffix for path in model_files(folder)} <= {".safetensors", ".json", ".jinja", ".model", ".txt"}
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert folder_revision(folder) != before


def test_a_renamed_file_changes_the_revision(folder):
    before = folder_revision(folder)
    (folder / "chat_template.jinja").rename(folder / "other.jinja")
    assert folder_revision(folder) != before


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    tokenizer = load_tokenizer(ref(folder))
    assert tokenizer.pad_token == tokenizer.eos_token


def test_a_broken_tokenizer_is_one_line_that_names_the_base(folder):
    (folder / "tokenizer.json").write_text("{\n\n}")
    with pytest.raises(ModelError, match=f"base_model {folder}: its tokenizer cannot be loaded") as caught:
        load_tokenizer(ref(folder))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("load", [load_tokenizer, load_config, lambda base: load_weights(base, "auto")])
def test_a_folder_that_does_not_exist_is_named(load):
    with pytest.raises(ModelError, match="base_model /nowhere: no such folder; correct the address"):
        load(ref("/nowhere"))


def test_a_config_that_cannot_be_read_is_named(folder):
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"base_model {folder}: its config.json cannot be loaded"):
        load_config(ref(folder))


def test_tokens_beyond_the_embedding_are_named_by_their_ids(folder):
    tokenizer = load_tokenizer(ref(folder))
    assert tokens_without_rows(ref(folder), tokenizer) == []
    tokenizer.add_tokens(["<one>", "<two>"])
    assert tokens_without_rows(ref(folder), tokenizer) == ["<one>", "<two>"]


def test_the_tokenizers_files_are_copied_without_those_of_the_weights(folder, tmp_path):
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "generation_config.json").write_text("{}")
    (folder / "vocab.txt").write_text("a")
    target = tmp_path / "target"
    target.mkdir()
    copy_tokenizer_files(ref(folder), target)
    names = {path.name for path in target.iterdir()}
    assert {"tokenizer.json", "vocab.txt"} <= names
    assert not {"config.json", "generation_config.json", "model.safetensors.index.json"} & names
    assert not any(name.endswith(".safetensors") for name in names)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, GenerationDefaults()),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20},
         GenerationDefaults(temperature=0.6, top_p=0.9, top_k=20)),
        ({"temperature": 0.6, "repetition_penalty": 1.1}, GenerationDefaults(temperature=0.6, repetition_penalty=1.1)),
        ({"do_sample": False}, GenerationDefaults(temperature=0.0)),
        ({"do_sample": False, "repetition_penalty": 1.1}, GenerationDefaults(temperature=0.0, repetition_penalty=1.1)),
        ({"do_sample": True, "min_p": 0.1, "max_new_tokens": 99}, GenerationDefaults(min_p=0.1, max_tokens=99)),
        ({"do_sample": True, "eos_token_id": [1, 2], "pad_token_id": 0}, GenerationDefaults()),
    ],
)  # fmt: skip
def test_the_authors_settings_become_sampling_parameters(folder, config, expected):
    (folder / "generation_config.json").write_text(json.dumps(config))
    assert load_generation(ref(folder)) == expected


def test_a_base_without_settings_has_none_and_says_so(folder, caplog):
    caplog.set_level("INFO")
    (folder / "generation_config.json").unlink(missing_ok=True)
    assert load_generation(ref(folder)) == GenerationDefaults()
    assert caplog.messages == [f"{folder} has no generation_config.json"]


def test_a_value_out_of_bounds_is_left_out_with_a_warning(folder, caplog):
    (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 5.0, "top_p": 0.5}')
    assert load_generation(ref(folder)) == GenerationDefaults(top_p=0.5)
    assert "generation_config.json: its temperature is out of bounds and left out" in caplog.messages


def test_settings_that_cannot_be_read_name_the_file(folder):
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ModelError, match=f"base_model {folder}: its generation_config.json cannot be loaded"):
        load_generation(ref(folder))


def test_pickled_weights_are_refused(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"base_model {folder}: its weights cannot be loaded"):
        load_weights(ref(folder).model_copy(update={"revision": folder_revision(folder)}), "auto")


def test_a_changed_folder_is_refused_before_its_weights_are_read(folder):
    with pytest.raises(ModelError, match=f"base_model {folder}: its files have the digest .*, not : they were changed"):
        load_weights(ref(folder), "auto")


def test_a_hub_id_has_no_folder_and_is_loaded_at_its_commit():
    base = ref("org/model").model_copy(update={"revision": "c0ffee"})
    assert folder_of(base) is None
    assert module._identity(base) == {"pretrained_model_name_or_path": "org/model", "revision": "c0ffee"}


def test_a_folder_is_loaded_without_a_revision(folder):
    base = ref(folder).model_copy(update={"revision": folder_revision(folder)})
    assert folder_of(base) == folder
    assert module._identity(base) == {"pretrained_model_name_or_path": str(folder)}


@pytest.mark.parametrize(
    ("published", "asked", "has_settings", "is_placed"),
    [(None, None, False, False), (None, "nf4", True, True), ("nf4", "nf4", False, True)],
)
def test_4_bit_weights_have_settings_unless_the_model_is_published_with_its_own(
    published, asked, has_settings, is_placed
):
    arguments = module._quantized(ref("/base", quantization=published), torch.float32, asked)
    assert ("quantization_config" in arguments) is has_settings
    assert ("device_map" in arguments) is is_placed
    if has_settings:
        settings = arguments["quantization_config"]
        assert (settings.load_in_4bit, settings.bnb_4bit_quant_type) == (True, "nf4")
        assert settings.bnb_4bit_compute_dtype is torch.float32


def test_each_process_holds_its_4_bit_weights_on_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert module._quantized(ref("/base", quantization="nf4"), torch.float16, "nf4") == {"device_map": {"": 3}}


@pytest.mark.parametrize(
    ("error", "shown"), [(ValueError("first\nsecond"), "first"), (OSError(), "OSError"), (KeyError("  "), "'  '")]
)
def test_an_error_of_a_library_is_shortened_to_its_first_line(error, shown):
    made = module._cannot_load(ref("/base"), "weights", error)
    assert str(made) == f"base_model /base: its weights cannot be loaded ({shown})"


def test_a_hub_that_does_not_answer_names_the_base(monkeypatch):
    def fails(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    with pytest.raises(ModelError, match=r"base_model org/model: its tokenizer cannot be loaded \(no network\)"):
        load_tokenizer(ref("org/model"))


def test_4_bit_layers_compute_in_the_type_of_the_device_and_keep_their_gradient():
    from bitsandbytes.nn import Linear4bit

    layer = Linear4bit(4, 4, compute_dtype=torch.float16)
    model = SimpleNamespace(modules=lambda: [torch.nn.Linear(4, 4), layer])
    module._prepare_4_bit_layers(model, torch.float32)  # type: ignore[arg-type]
    assert layer.compute_dtype is torch.float32
    assert layer.support_avx512bf16_for_cpu is False
