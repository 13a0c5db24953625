"""What cannot fit, and what would."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef
from components.modeling.token_loss import Example
from pipelines.config.pools import Placement
from pipelines.config.recipe import Recipe
from pipelines.estimate import limits, steps
from pipelines.estimate.calibration import Calibration
from pipelines.estimate.estimate import Estimate, estimate_run
from pipelines.estimate.lengths import Data, SplitSample
from pipelines.estimate.machines import Machine, Place, Speed, place
from pipelines.estimate.table import refusal
from tests.pipelines.estimate.conftest import LLAMA_1B, LLAMA_3B, write_header

SPEED = Speed(1e12, 1e11, 1e11, 0.5, "a test")


@pytest.fixture(autouse=True)
def _long_rows(monkeypatch) -> None:
    """Data of 2,000 rows with 3,000 tokens each, half of them supervised."""
    row = (Example([1] * 3000, [-100, 1] * 1500),)
    split = SplitSample(2000, (row,) * 20)
    monkeypatch.setattr(steps, "read_data", lambda *_: Data(split, split, split, 2000, "a test"))


def estimated(base: BaseModelRef, at: Place, workdir: Path, **train: Any) -> Estimate:
    recipe = Recipe.model_validate(
        {"name": "r", "base_model": "b", "split": {"data": "d.jsonl", "validation_rows": 8}, "train": train}
    )
    return estimate_run("r", recipe, base, at, Calibration(), workdir)


def on_pool(**pools: Any) -> Place:
    return place(Placement.model_validate({"pool": "t4", "pools": pools}))


def test_a_3b_with_long_rows_does_not_fit_a_t4_and_what_would_is_computed(tmp_path):
    base = write_header(tmp_path / "base", LLAMA_3B)
    settings = {"per_device_train_batch_size": 2, "max_length": 3000}
    found = estimated(base, on_pool(), tmp_path, **settings)
    assert not found.fits
    # Smaller batches and 4-bit weights, which a T4 has anyway, are not enough.
    assert found.fixes == ("train.gradient_checkpointing: true", "train.max_length: 750", "--pool a100")
    assert estimated(base, on_pool(), tmp_path, **settings, gradient_checkpointing=True).shortages == ()
    assert estimated(base, on_pool(), tmp_path, **{**settings, "max_length": 750}).shortages == ()
    message = refusal(found)
    assert re.match(
        r"r: train_lora cannot fit: it takes about [\d.]+ GB of GPU memory, and pool t4 has 16\.0 GB; ", message
    )
    assert message.endswith(
        "what would fit: train.gradient_checkpointing: true; or train.max_length: 750; or --pool a100"
    )


def test_changes_are_combined_where_none_is_enough_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CHANGES", limits.CHANGES[:-1])
    base = write_header(tmp_path / "base", LLAMA_3B)
    at = on_pool(t4={"gpu_memory": "12G"}, a100={"gpu_memory": "1G"})
    found = estimated(base, at, tmp_path, per_device_train_batch_size=8, max_length=3000)
    assert found.fixes == (
        "train.per_device_train_batch_size: 1, train.gradient_accumulation_steps: 32, "
        "train.gradient_checkpointing: true",
    )


def test_rows_are_not_cut_to_where_they_have_no_answer(tmp_path, monkeypatch):
    late = (Example([1] * 3000, [-100] * 2900 + [1] * 100),)
    split = SplitSample(2000, (late,) * 20)
    monkeypatch.setattr(steps, "read_data", lambda *_: Data(split, split, split, 2000, "a test"))
    base = write_header(tmp_path / "base", LLAMA_3B)
    found = estimated(base, on_pool(), tmp_path, per_device_train_batch_size=2, max_length=3000)
    assert found.fixes == ("train.gradient_checkpointing: true", "--pool a100")


def test_memory_of_the_pool_counts_too_and_names_its_setting(tmp_path):
    base = write_header(tmp_path / "base", LLAMA_1B)
    found = estimated(base, on_pool(cpu={"memory": "4Gi"}), tmp_path, max_length=256)
    (shortage,) = found.shortages
    assert re.match(
        r"evaluate_gguf cannot fit: it takes about [\d.]+ GB of memory, and pool cpu has 4.3 GB "
        r"\(placement\.pools\.cpu\.memory\)$",
        shortage.line,
    )


def test_what_is_uncertain_is_said_and_not_refused(tmp_path):
    base = write_header(tmp_path / "base", LLAMA_1B)
    roomy = estimated(base, on_pool(), tmp_path, max_length=1024)
    needed = roomy.gpu_bytes
    assert needed is not None
    tight = on_pool(t4={"gpu_memory": f"{needed.value * 0.95 / 1e9:.3f}G"})
    found = estimated(base, tight, tmp_path, max_length=1024)
    assert (found.fits, found.fixes) == (True, ())
    assert " may not fit: it takes about " in found.shortages[0].line


def test_a_base_that_fits_nowhere_is_refused_without_a_setting(tmp_path):
    base = write_header(tmp_path / "base", LLAMA_3B)
    here = Place("this machine", None, Machine("this machine", 2, 4_000_000_000, SPEED))
    message = refusal(estimated(base, here, tmp_path))
    assert message.endswith("no setting of the recipe makes it fit: choose a smaller base model")


def test_a_disk_without_room_for_the_export_is_refused(tmp_path, monkeypatch):
    base = write_header(tmp_path / "base", LLAMA_1B)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000_000))
    here = Place("this machine", None, Machine("this machine", 2, 10**12, SPEED))
    found = estimated(base, here, tmp_path / "not" / "there")
    assert not found.fits
    assert re.search(
        rf"export_gguf cannot fit: it takes about 7\.\d GB of disk, and {tmp_path} has 5\.0 GB free "
        r"\(free some, or choose --workdir\)", refusal(found),
    )  # fmt: skip
