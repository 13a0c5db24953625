"""The f16 file against the adapter as transformers runs it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from components.errors import ModelError
from components.evaluate_gguf import against_training
from components.evaluate_gguf.against_training import MAX_KL_DIVERGENCE, MAX_ROWS, Agreement, compare_with_training
from components.evaluate_gguf.quality import Quality
from components.modeling.token_loss import Example


def test_the_file_says_what_the_adapter_says(tiny_run, base, f16, examples):
    agreement = compare_with_training(base, str(tiny_run.adapter), f16, examples)
    assert 0 <= agreement.kl_divergence < MAX_KL_DIVERGENCE / 10
    assert len(agreement.answers) == min(MAX_ROWS, len(examples))
    for prompt, adapter, served in agreement.answers:
        assert prompt
        assert adapter == served


def test_a_row_whose_prompt_fills_the_context_is_left_out(tiny_run, base, f16, examples, caplog):
    caplog.set_level("INFO")
    n_trained = 512
    full = Example([7] * n_trained, [-100] * (n_trained - 1) + [7])
    agreement = compare_with_training(base, str(tiny_run.adapter), f16, [full, examples[0]])
    assert len(agreement.answers) == 1
    assert "row 1 is not compared with training" in caplog.text


def test_a_file_that_predicts_something_else_is_refused_with_the_divergence_and_the_base(
    tiny_run, base, f16, examples, monkeypatch
):
    monkeypatch.setattr(against_training, "MAX_KL_DIVERGENCE", -1.0)
    with pytest.raises(ModelError, match=r"KL divergence \d\.\d{3} nats a token, more than -1\.0") as refused:
        compare_with_training(base, str(tiny_run.adapter), f16, examples[:1])
    assert re.search(rf"{re.escape(base.address)} is lost in the conversion; use another base", str(refused.value))


def test_figures_count_the_answers_that_are_the_same():
    agreement = Agreement(0.25, [("p", "same", "same"), ("p", "one", "other")])
    assert agreement.figures == {
        "training_kl_divergence": 0.25, "training_answers": 2, "training_same_answers": 1,
    }  # fmt: skip
    assert Agreement().figures["training_answers"] == 0


class Padded:
    """Weights whose output layer has more rows than the file's vocabulary."""

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits = logits

    def __call__(self, **_: object) -> Padded:
        return self

    @property
    def logits(self) -> torch.Tensor:
        return self._logits


def test_rows_that_only_one_of_them_has_count_for_nothing(monkeypatch):
    """An output layer is padded to a round size; the file is not."""
    monkeypatch.setattr(against_training, "gives_chosen_logits", lambda weights: False)
    logits = torch.tensor([[[1.0, 2.0, 9.0], [3.0, 1.0, 9.0], [0.0, 0.0, 9.0]]])

    class File:
        def logits(self, tokens: list[int], wanted: list[bool]) -> list[np.ndarray]:
            assert wanted == [True, True, False]
            return [logits[0, n : n + 1, :2].numpy() for n in range(2)]

    quality, example = Quality(), Example([0, 1, 0], [-100, 1, 0])
    against_training._add_predictions(quality, Padded(logits), File(), example)  # type: ignore[arg-type]
    assert (quality.n_tokens, quality.divergence) == (2, 0.0)
