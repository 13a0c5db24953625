"""The shape of a base model, from headers whose weights are not there."""

from __future__ import annotations

from types import SimpleNamespace

import huggingface_hub
import pytest

from components.artifacts.contracts import BaseModelRef
from components.errors import ModelError
from components.storage.store import Store
from pipelines.estimate.shape import ModelShape, Tensor, read_shape
from tests.pipelines.estimate.conftest import LLAMA_1B, LLAMA_3B, SMOLLM2, write_header


@pytest.mark.parametrize(
    ("config", "n_parameters", "n_lora"),
    # The demo's run.json counts 4,884,480 trained numbers; the others are in the models' cards.
    [(SMOLLM2, 134_515_008, 4_884_480), (LLAMA_1B, 1_235_814_400, 11_272_192), (LLAMA_3B, 3_212_749_824, 24_313_856)],
)
def test_parameters_are_counted_without_the_weights(shape_of, config, n_parameters, n_lora):
    shape = shape_of(config)
    assert (shape.n_parameters, shape.n_lora(16, "all-linear")) == (n_parameters, n_lora)
    assert shape.stored_bytes == 2 * n_parameters


def test_an_adapter_on_some_layers_has_their_parameters_alone(shape_of):
    shape = shape_of(SMOLLM2)
    of_queries = 30 * 8 * (576 + 576)
    assert shape.n_lora(8, ["q_proj"]) == of_queries
    assert shape.n_lora(8, r".*\.self_attn\.(q|o)_proj") == 2 * of_queries


def test_a_base_in_a_bucket_is_read_as_far_as_its_header(tmp_path, monkeypatch):
    write_header(tmp_path / "base", SMOLLM2)
    monkeypatch.setattr("pipelines.estimate.shape.in_bucket", lambda address: address.startswith("s3://"))
    monkeypatch.setattr("pipelines.estimate.shape.Store", lambda address: Store(str(tmp_path / "base")))
    base = BaseModelRef(address="s3://bucket/base", revision="1", weight_bytes=1)
    assert read_shape(base).n_parameters == 134_515_008


def test_a_base_of_the_hub_is_known_by_its_metadata(tmp_path, monkeypatch):
    write_header(tmp_path, SMOLLM2)
    tensor = SimpleNamespace(shape=[576, 192], data_offsets=(0, 4 * 576 * 192))
    found = SimpleNamespace(files_metadata={"a.safetensors": SimpleNamespace(tensors={"layers.0.x.weight": tensor})})
    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", lambda address, revision: found)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "config.json"))
    shape = read_shape(BaseModelRef(address="owner/name", revision="1", weight_bytes=1))
    assert (shape.n_parameters, shape.stored_bytes, shape.n_layers) == (576 * 192, 4 * 576 * 192, 30)


def test_a_base_in_four_bits_has_the_shape_of_its_full_weights(tmp_path):
    full = write_header(tmp_path / "full", SMOLLM2)
    base = BaseModelRef(address=str(tmp_path), revision="1", weight_bytes=1, quantization="nf4", full_precision=full)
    assert read_shape(base).n_parameters == 134_515_008


def test_of_experts_a_token_is_multiplied_with_some():
    up, other = Tensor("layers.0.experts.0.up.weight", (10, 4), 80), Tensor("layers.0.q_proj.weight", (4, 4), 32)
    shape = ModelShape((up, other), {"num_local_experts": 8, "num_experts_per_tok": 2})
    assert (shape.n_linear, shape.n_computing) == (56, 40 / 4 + 16)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("pvc://models/base", "pvc://models/base: on a cluster's volume, which only the cluster can read"),
        ("/nowhere", "/nowhere: holds no safetensors weights; the run cannot be estimated"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, address, message):
    address = address.replace("/nowhere", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=message.replace("/nowhere", str(tmp_path))):
        read_shape(BaseModelRef(address=address, revision="1", weight_bytes=1))


def test_a_broken_header_names_the_file(tmp_path):
    base = write_header(tmp_path, SMOLLM2)
    (tmp_path / "model.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0not JSON!")
    with pytest.raises(ModelError, match=r"model\.safetensors: its header cannot be read .*fetch the file again"):
        read_shape(base)
