"""The loss of each model on the rows of each, with models whose losses are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.artifacts.run_record import write_record
from components.errors import ModelError
from components.evaluate import each_on_each
from components.evaluate.each_on_each import TrainedRun, measure_losses
from components.modeling.token_loss import TokenLoss
from tests.components.artifacts.test_run_record import RECORD


def runs(folder: Path, **max_lengths: int) -> list[TrainedRun]:
    made = []
    for name, max_length in max_lengths.items():
        adapter = folder / name
        adapter.mkdir()
        write_record(RECORD.model_copy(update={"run_key": name, "train": {"max_length": max_length}}), adapter)
        made.append(TrainedRun(name, str(adapter), f"rows of {name}"))
    return made


@pytest.fixture
def loaded(monkeypatch) -> list[tuple[str, int]]:
    """The models that are loaded, with the length of their rows. A model's loss is 1 on its own rows, else 2."""
    made: list[tuple[str, int]] = []

    class ModelPair:
        def __init__(self, base_model: Any, adapter_path: str, record: Any, *, max_length: int) -> None:
            self.name = record.run_key
            made.append((self.name, max_length))

        def tuned_loss(self, path: str, batch_size: int) -> TokenLoss:
            own = path == f"rows of {self.name}"
            return TokenLoss(1.0 if own else 2.0, 10 if "short" not in self.name else 5)

    monkeypatch.setattr(each_on_each, "ModelPair", ModelPair)
    return made


def test_every_model_is_loaded_once_and_measured_on_all_rows(tmp_path, loaded):
    lines: list[str] = []
    found = measure_losses(runs(tmp_path, a=8, b=32), lines.append)
    assert found == {"a": {"a": 1.0, "b": 2.0}, "b": {"a": 2.0, "b": 1.0}}
    assert loaded == [("a", 32), ("b", 32)], "rows are cut to the largest length of all"
    assert lines[1] == "a on the rows of b: 2.0000 over 10 tokens"
    assert len(lines) == 4


def test_models_of_two_tokenizers_do_not_compare(tmp_path, loaded):
    message = r"short: tokenizes the rows of a into 5 tokens, and another model into 10: losses per token do not"
    with pytest.raises(ModelError, match=message):
        measure_losses(runs(tmp_path, a=8, short=8), lambda _: None)


def test_a_run_without_a_record_is_refused_before_a_model_is_loaded(tmp_path, loaded):
    with pytest.raises(ModelError, match=r"nowhere/run.json: no such file"):
        measure_losses([TrainedRun("x", str(tmp_path / "nowhere"), "rows")], lambda _: None)
    assert loaded == []
