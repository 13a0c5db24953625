"""Evaluation: base and tuned on the same rows and the same prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.artifacts.contracts import BaseModelRef
from components.artifacts.run_record import read_record
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import evaluate
from components.modeling.base_model import folder_revision

PROMPTS = """
- name: one turn
  turns: [Say hello.]
- name: a <b>follow-up</b>
  system: Be brief.
  turns: [First?, And second?]
"""


@pytest.fixture(scope="module")
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)


def run(tiny_run, base, folder: Path, **settings) -> dict[str, float]:
    rows = tiny_run.adapter.parent.parent / "split-data"
    return evaluate(
        EvaluateConfig.model_validate({"max_new_tokens": 5, **settings}),
        base,
        adapter_path=str(tiny_run.adapter),
        validation_path=str(rows / "validation"),
        test_path=str(rows / "test"),
        report_path=str(folder / "report.html"),
        samples_path=str(folder / "samples.json"),
    )


def test_base_and_tuned_losses_are_those_that_training_measured_on_the_same_rows(tiny_run, base, tmp_path):
    figures, record = run(tiny_run, base, tmp_path), read_record(str(tiny_run.adapter))
    assert figures["base_validation_loss"] == pytest.approx(record.base_eval_loss, rel=1e-5)
    assert figures["tuned_validation_loss"] == pytest.approx(record.final_eval_loss, rel=1e-5)
    assert figures["tuned_validation_perplexity"] == pytest.approx(
        2.718281828 ** figures["tuned_validation_loss"], rel=1e-6
    )
    assert not any("test" in name for name in figures)


def test_the_test_split_is_measured_only_when_asked(tiny_run, base, tmp_path):
    figures = run(tiny_run, base, tmp_path, test=True)
    assert figures["tuned_test_loss"] != figures["tuned_validation_loss"]


def test_both_models_answer_every_turn_with_seconds_and_tokens_per_second(tiny_run, base, tmp_path):
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    figures = run(tiny_run, base, tmp_path, prompts=str(tmp_path / "prompts.yaml"))
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert [(s["model"], s["turn"]) for s in samples] == [
        ("base", "Say hello."), ("tuned", "Say hello."),
        ("base", "First?"), ("base", "And second?"), ("tuned", "First?"), ("tuned", "And second?"),
    ]  # fmt: skip
    assert all(s["seconds"] > 0 and s["n_tokens"] <= 5 for s in samples)
    assert all(s["tokens_per_second"] == pytest.approx(s["n_tokens"] / s["seconds"]) for s in samples)
    assert figures["tuned_seconds_per_answer"] > 0
    page = (tmp_path / "report.html").read_text()
    assert "a &lt;b&gt;follow-up&lt;/b&gt;" in page
    assert page.count("tokens/s") == 6
    assert "train.checkpoint: final" in page
