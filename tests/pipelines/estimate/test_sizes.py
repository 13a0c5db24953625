"""Sizes of files beside those that llama.cpp and peft wrote."""

from __future__ import annotations

import pytest

from components.export_gguf.config import ExportConfig
from components.train_lora.config import TrainConfig
from pipelines.estimate.sizes import gguf_bytes, sizes_of
from tests.pipelines.estimate.conftest import LLAMA_1B, SMOLLM2


@pytest.mark.parametrize(
    ("config", "quantization", "megabytes"),
    # docs/benchmarks.md; the rows of the first are no multiple of 256, so that other types take the place of K-quants.
    [
        (SMOLLM2, "F16", 270.9),
        (SMOLLM2, "Q8_0", 144.8),
        (SMOLLM2, "Q6_K", 138.4),
        (SMOLLM2, "Q5_K_M", 112.1),
        (LLAMA_1B, "Q4_K_M", 807.7),
    ],
)
def test_a_gguf_file_has_the_size_that_llama_cpp_gives_it(shape_of, config, quantization, megabytes):
    assert gguf_bytes(shape_of(config), quantization) / 1e6 == pytest.approx(megabytes, rel=0.005)


def test_adapter_and_checkpoints_have_the_sizes_that_the_demo_wrote(shape_of):
    sizes = sizes_of(shape_of(SMOLLM2), TrainConfig(), ExportConfig(), 269_060_552)
    assert sizes.adapter / 1e6 == pytest.approx(23.2, rel=0.1)
    assert sizes.checkpoints / 1e6 == pytest.approx(2 * (62 + 23), rel=0.1)
    assert sizes.disk > 3 * 269e6
