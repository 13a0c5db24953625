"""Base models that are published in 4 bits: what they train on, and what their adapters merge into."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from components.artifacts.contracts import BaseModelRef
from components.errors import ModelError, RecipeError
from components.export_gguf.convert import merge
from components.modeling.base_model import folder_revision, load_tokenizer, load_weights
from pipelines.config.recipe import load_recipe
from pipelines.resolve.resolved_recipe import ResolvedRecipe, resolve
from tests.components.train_lora.training import run
from tests.conftest import chat_rows, recipe_text, split_rows, write_jsonl


@pytest.fixture(scope="module")
def four_bits(tiny_base, tmp_path_factory) -> Path:
    """The tiny base as bitsandbytes packs it, as it would be published."""
    folder = tmp_path_factory.mktemp("published") / "tiny-bnb-4bit"
    full = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    load_weights(full, torch.float32, "nf4").save_pretrained(folder)
    load_tokenizer(full).save_pretrained(folder)
    return folder


def resolved(base: Path | str, folder: Path, **keys: str) -> ResolvedRecipe:
    data = write_jsonl(folder / "data.jsonl", chat_rows(12))
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe_text(base, data) + "".join(f"{key}: {value}\n" for key, value in keys.items()))
    return resolve(load_recipe(recipe), folder / "work", print)


def resolved_base(base: Path | str, folder: Path, **keys: str) -> BaseModelRef:
    return resolved(base, folder, **keys).base_model


def test_a_base_in_4_bits_trains_as_it_is_and_merges_into_the_full_weights(four_bits, tiny_base, tmp_path):
    base = resolved_base(four_bits, tmp_path, full_precision_base=str(tiny_base))
    assert base.quantization == "nf4"
    assert base.to_merge_into.address == str(tiny_base)
    split_rows(tmp_path / "rows", chat_rows(24), validation_rows=4)
    record = run(base, tmp_path / "rows", tmp_path, max_steps=2)
    assert record.base_quantization == "nf4"
    merge(base, str(tmp_path / "adapter"), tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    whole = BaseModelRef(
        address=str(tmp_path / "merged"), revision=folder_revision(tmp_path / "merged"), weight_bytes=0
    )
    merged = load_weights(whole, torch.float32)
    full = load_weights(base.to_merge_into, torch.float32)
    names = [name for name, weight in full.named_parameters() if not torch.equal(weight, merged.get_parameter(name))]
    assert names
    assert all(name.endswith("proj.weight") for name in names)


def test_the_card_says_what_a_base_in_4_bits_was_made_from(four_bits, tiny_base, tmp_path):
    published = Path(shutil.copytree(four_bits, tmp_path / "published"))
    (published / "README.md").write_text(f"---\nbase_model: {tiny_base}\nlicense: mit\n---\n")
    base = resolved_base(published, tmp_path)
    assert base.license == "mit"
    assert base.to_merge_into.address == str(tiny_base)


def test_a_base_in_4_bits_that_nobody_knows_the_full_weights_of_is_an_error(four_bits, tmp_path):
    with pytest.raises(
        ModelError, match=r"is published in 4 bits, and its card does not name its base; .* in full_prec"
    ):
        resolved_base(four_bits, tmp_path)
    with pytest.raises(ModelError, match=r"full_precision_base .*: is published in 4 bits too; name one with full"):
        resolved_base(four_bits, tmp_path, full_precision_base=str(four_bits))


def test_an_adapter_never_merges_into_4_bits(four_bits, tiny_base, tmp_path):
    base = resolved_base(four_bits, tmp_path, full_precision_base=str(tiny_base))
    with pytest.raises(ModelError, match="its weights are in 4 bits, and an adapter merges into full ones only; name"):
        merge(base.model_copy(update={"full_precision": None}), None, tmp_path / "merged")


def test_weights_that_are_quantized_in_another_way_are_refused(tiny_base, tmp_path):
    other = Path(shutil.copytree(tiny_base, tmp_path / "gptq"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(
        ModelError, match="its weights are quantized by gptq, not in 4 bits by bitsandbytes, and cannot"
    ):
        resolved_base(other, tmp_path)


def test_both_bases_are_addresses_that_a_submission_may_move(four_bits, tiny_base, tmp_path):
    recipe = resolved(four_bits, tmp_path, full_precision_base=str(tiny_base))
    moved = recipe.with_addresses({"base_model": "s3://b/four", "full_precision_base": "s3://b/full"})
    assert moved.base_model.address == "s3://b/four"
    assert moved.base_model.to_merge_into.address == "s3://b/full"
    assert recipe.addresses["full_precision_base"] == str(tiny_base)


def test_a_full_precision_base_beside_full_weights_is_refused(tiny_base, tmp_path):
    with pytest.raises(RecipeError, match="base_model has full weights itself, and the adapter merges into those"):
        resolved_base(tiny_base, tmp_path, full_precision_base=str(tiny_base))


def test_a_card_with_a_broken_head_says_nothing(tiny_base, tmp_path):
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    for head in ("---\n: [\n---\n", "---\n- a list\n---\n", "no head"):
        (base / "README.md").write_text(head)
        assert resolved_base(base, tmp_path).license is None


def test_packed_weights_that_nobody_said_are_such_are_refused_before_training(four_bits, tmp_path):
    base = BaseModelRef(address=str(four_bits), revision=folder_revision(four_bits), weight_bytes=0)
    split_rows(tmp_path / "rows", chat_rows(24), validation_rows=4)
    with pytest.raises(ModelError, match="is in 4 bits; name the full weights in full_precision_base"):
        run(base, tmp_path / "rows", tmp_path)


def test_a_made_base_that_is_used_again_counts_as_new_for_a_gc(tiny_base, tmp_path, monkeypatch):
    made = tmp_path / "work" / "base-models" / "tiny-base-0123456789ab"
    shutil.copytree(tiny_base, made)
    os.utime(made, (1e9, 1e9))
    monkeypatch.setattr("pipelines.resolve.base_model.made_base", lambda *_: made)
    assert resolved_base("lorry://tiny-base", tmp_path).address == str(made)
    assert made.stat().st_mtime > 1.5e9
