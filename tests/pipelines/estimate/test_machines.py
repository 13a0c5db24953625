"""The machines of the steps: pools and this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.config.pools import Placement
from pipelines.estimate import machines
from pipelines.estimate.machines import bytes_of, gpu_here, place


@pytest.mark.parametrize(
    ("quantity", "n"), [("16G", 16 * 10**9), ("16Gi", 16 * 2**30), ("1.5Gi", 3 * 2**29), ("500M", 500 * 10**6)]
)
def test_quantities_are_those_of_kubernetes(quantity, n):
    assert bytes_of(quantity) == n


def test_training_is_on_the_chosen_pool_and_export_on_cpu():
    at = place(Placement.model_validate({"pools": {"t4": {"price_per_hour": 0.5}}, "currency": "EUR"}))
    trainer, exporter = at.machine_of("train_lora"), at.machine_of("export_gguf")
    assert (trainer.name, trainer.gpu_bytes, trainer.price_per_hour) == ("pool t4", 16 * 10**9, 0.5)
    assert (exporter.name, exporter.gpus, exporter.memory_bytes) == ("pool cpu", 0, 16 * 2**30)
    assert at.machine_of("split_data").name == "pool small"
    assert at.machine_of("split_data", splits_with_model=True).name == "pool t4"
    assert (at.name, at.currency) == ("pool t4", "EUR")


def test_a_pool_of_ones_own_is_known_by_its_selector_or_not_at_all():
    pools = {
        "big": {"gpus": 2, "node_selector": {"gpu": "NVIDIA-A100-SXM4-40GB"}},
        "new": {"gpus": 1},
        "half": {"cpu": "500m"},
    }
    placement = Placement.model_validate({"pools": pools})
    big, new, half = (place(placement.on(name)).machine_of("train_lora") for name in pools)
    assert (big.speed.source, big.gpu_bytes) == ("torchtune's README on an A100", None)
    assert "no figures for this GPU" in new.speed.source
    assert (half.cores, half.has_gpu) == (0.5, False)


def program(folder: Path, text: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_a_gpu_of_this_machine_trains_and_its_cores_export(tmp_path, monkeypatch):
    program(tmp_path, "echo 'Tesla T4, 15360'; echo 'Tesla T4, 15360'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    at = place(None)
    trainer, exporter = at.machine_of("train_lora"), at.machine_of("export_gguf")
    assert (trainer.gpu_bytes, trainer.speed.bfloat16) == (15360 * 2**20, False)
    assert (exporter.gpu_bytes, exporter.has_gpu, exporter.name) == (None, False, "this machine")


@pytest.mark.parametrize("text", ["exit 9", "echo 'No devices were found'"])
def test_a_driver_that_finds_no_gpu_is_none(tmp_path, monkeypatch, text):
    program(tmp_path, text)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpu_here() is None


def test_cores_with_avx512_are_faster(tmp_path, monkeypatch):
    monkeypatch.setattr(machines, "CPUINFO", tmp_path / "cpuinfo")
    plain = machines.speed_of_cores(2)
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512f avx512_bf16\n")
    assert machines.speed_of_cores(2).flops > plain.flops
