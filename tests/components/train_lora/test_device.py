"""The device of a run, with GPUs that are faked by their capabilities."""

from __future__ import annotations

import builtins
import sys

import pytest
import torch

from components.artifacts.contracts import BaseModelRef
from components.errors import LorryError, ModelError
from components.train_lora.config import TrainConfig
from components.train_lora.device import choose_device

BASE = BaseModelRef(address="/base", revision="r", weight_bytes=0)
PACKED = BASE.model_copy(update={"quantization": "nf4"})


def gpu(monkeypatch: pytest.MonkeyPatch, name: str, major: int, n: int = 1) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, 0))
    # The library of this machine may have no kernels for a GPU that is not there.
    monkeypatch.setattr("components.train_lora.device._require_bitsandbytes", lambda *_: None)


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("name", "major", "setting", "precision", "quantization"),
    [
        ("A100", 8, "auto", "bfloat16", None),
        ("A100", 8, "nf4", "bfloat16", "nf4"),
        ("H100", 9, "none", "bfloat16", None),
        ("T4", 7, "auto", "float16", "nf4"),
        ("T4", 7, "none", "float16", None),
        ("V100", 7, "nf4", "float16", "nf4"),
    ],
)
def test_a_gpu_computes_in_the_type_that_it_has(monkeypatch, name, major, setting, precision, quantization):
    gpu(monkeypatch, name, major)
    device = choose_device(TrainConfig(base_quantization=setting), BASE)
    assert (device.hardware, device.precision, device.quantization) == (f"1 x {name}", precision, quantization)
    assert device.dtype is getattr(torch, precision)


def test_several_gpus_are_counted_and_the_processes_are_those_of_the_environment(monkeypatch):
    gpu(monkeypatch, "A100", 8, n=4)
    monkeypatch.setenv("WORLD_SIZE", "4")
    device = choose_device(TrainConfig(), BASE)
    assert (device.hardware, device.n_processes) == ("4 x A100", 4)


def test_a_cpu_computes_in_float32_with_full_weights(monkeypatch, caplog):
    no_gpu(monkeypatch)
    caplog.set_level("INFO")
    device = choose_device(TrainConfig(), BASE)
    assert (device.precision, device.quantization, device.n_processes) == ("float32", None, 1)
    assert device.hardware.startswith("CPU (")
    assert "computing in float32" in caplog.text
    assert "base weights in float32 (nothing asks for fewer bits)" in caplog.text


def test_a_base_that_is_published_in_4_bits_stays_so_whatever_the_recipe_says(monkeypatch, caplog):
    gpu(monkeypatch, "A100", 8)
    caplog.set_level("INFO")
    assert choose_device(TrainConfig(base_quantization="none"), PACKED).quantization == "nf4"
    assert "base weights in nf4 (as the base model is published)" in caplog.text


@pytest.mark.parametrize(
    ("base", "setting", "cause", "alternative"),
    [
        (BASE, "nf4", r"train.base_quantization = 'nf4' needs bitsandbytes", "set base_quantization: none"),
        (PACKED, "auto", "base_model /base is published in nf4, which needs bitsandbytes", "choose full weights"),
    ],
)
def test_a_missing_bitsandbytes_is_an_error_with_the_alternative(monkeypatch, base, setting, cause, alternative):
    no_gpu(monkeypatch)
    original = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("bitsandbytes"):
            raise ImportError("no such module\nand more lines")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=rf"{cause}, and .*\(no such module\); install it, or {alternative}$"):
        choose_device(TrainConfig(base_quantization=setting), base)


def test_a_bitsandbytes_without_kernels_for_the_gpu_is_an_error(monkeypatch):
    class ErrorHandlerMockBNBNativeLibrary:
        """As bitsandbytes calls what it has where its compiled library did not load."""

    cextension = sys.modules.get("bitsandbytes.cextension") or __import__("bitsandbytes.cextension").cextension
    monkeypatch.setattr(cextension, "lib", ErrorHandlerMockBNBNativeLibrary())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    with pytest.raises(ModelError, match=r"= 'auto' is nf4 on this GPU, which needs .* no compiled library for this"):
        choose_device(TrainConfig(), BASE)


def test_a_pod_whose_gpu_torch_does_not_see_is_an_error_and_a_laptop_is_not(monkeypatch):
    no_gpu(monkeypatch)
    monkeypatch.setenv("LORRY_GPUS", "1")
    choose_device(TrainConfig(), BASE)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(LorryError, match=r"was given 1 GPU\(s\), and torch .* sees none: use a train image with CUDA"):
        choose_device(TrainConfig(), BASE)
    monkeypatch.setenv("LORRY_GPUS", "0")
    choose_device(TrainConfig(), BASE)
