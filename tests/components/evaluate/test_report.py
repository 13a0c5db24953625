"""The figures and the page of an evaluation, from results that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.evaluate.evaluate import _figures
from components.evaluate.report import write_report
from components.evaluate.results import GeneratedAnswer, SplitLoss
from components.modeling.token_loss import TokenLoss
from tests.components.artifacts.test_run_record import RECORD

LOSS = SplitLoss("validation", 12, TokenLoss(4.0, 100), TokenLoss(3.0, 100))


def answer(
    model: str, turn: str = "Hi?", *, text: str = "Yo", seconds: float = 2.0, n_tokens: int = 10
) -> GeneratedAnswer:
    return GeneratedAnswer("greeting", turn, model, text, seconds, n_tokens)


def page(folder: Path, *, losses: Any = (LOSS,), answers: Any = (), **record: Any) -> str:
    write_report(str(folder / "report.html"), RECORD.model_copy(update=record), losses, answers)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_improvement_is_a_share_of_the_bases_loss():
    assert LOSS.improvement == 0.25
    assert SplitLoss("test", 1, TokenLoss(2.0, 1), TokenLoss(3.0, 1)).improvement == -0.5
    assert SplitLoss("test", 1, TokenLoss(0.0, 0), TokenLoss(0.0, 0)).improvement == 0.0


def test_tokens_per_second_of_an_answer_that_took_no_time_are_finite():
    assert answer("base").tokens_per_second == 5.0
    assert answer("base", seconds=0.0, n_tokens=0).tokens_per_second == 0.0


def test_figures_are_named_by_model_and_split():
    figures = _figures([LOSS], [], RECORD)
    assert figures["base_validation_loss"] == 4.0
    assert figures["tuned_validation_loss"] == 3.0
    assert figures["tuned_validation_perplexity"] == pytest.approx(20.0855, rel=1e-5)
    assert figures["best_validation_loss"] == RECORD.best_eval_loss
    assert not [name for name in figures if "answer" in name or "second" in name]
    assert "best_validation_loss" not in _figures([], [], RECORD.model_copy(update={"best_eval_loss": None}))


def test_figures_of_answers_weigh_each_second_the_same():
    answers = [answer("base", seconds=1.0, n_tokens=10), answer("base", seconds=3.0, n_tokens=10), answer("tuned")]
    figures = _figures([], answers, RECORD)
    assert figures["base_seconds_per_answer"] == 2.0
    assert figures["base_tokens_per_second"] == 5.0
    assert figures["tuned_tokens_per_second"] == 5.0


def test_the_page_has_the_losses_with_their_change(tmp_path):
    text = page(tmp_path)
    for cell in ("validation", "12", "100", "4.0000", "3.0000", "-25.0 %", "54.60", "20.09"):
        assert f"<td>{cell}</td>" in text
    assert "Answers side by side" not in text


def test_the_page_names_the_run_and_its_best_step(tmp_path):
    text = page(tmp_path)
    assert "Evaluation of run k" in text
    assert "3 steps in\n0.5 minutes on CPU" in text
    assert "best validation loss was\n3.0000 at step 2;\nthe last, at step 3, 3.1000" in text
    without = page(tmp_path, final_eval_loss=None)
    assert "3.0000 at step 2." in without
    assert "best validation loss" not in page(tmp_path, best_eval_loss=None)


def test_answers_stand_side_by_side_turn_by_turn(tmp_path):
    answers = [
        answer("base", "First?", text="b1"), answer("base", "Second?", text="b2"),
        answer("tuned", "First?", text="t1"), answer("tuned", "Second?", text="t2"),
    ]  # fmt: skip
    text = page(tmp_path, answers=answers)
    positions = [text.index(part) for part in ("First?", "b1", "t1", "Second?", "b2", "t2")]
    assert positions == sorted(positions)
    assert "2.00 s, 10 tokens,\n5 tokens/s" in text


def test_what_a_model_writes_is_escaped(tmp_path):
    answers = [answer(model, text="<script>alert(1)</script>") for model in ("base", "tuned")]
    text = page(tmp_path, answers=answers, hardware="<b>CPU</b>")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;b&gt;CPU&lt;/b&gt;" in text


def test_an_answer_without_its_counterpart_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        page(tmp_path, answers=[answer("base")])
