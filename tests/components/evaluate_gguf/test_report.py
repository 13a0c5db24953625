"""The page on what quantization costs."""

from __future__ import annotations

import re
from pathlib import Path

from components.evaluate_gguf.generation import TimedAnswer, figures_of
from components.evaluate_gguf.report import write_report

FIGURES = {
    "training_kl_divergence": 0.000123, "training_answers": 2, "training_same_answers": 1, "f16_size_bytes": 2_000_000,
    "size_bytes": 500_000, "measured_tokens": 12_345, "f16_perplexity": 4.0, "quantized_perplexity": 4.2,
    "perplexity_increase": 0.05, "kl_divergence": 0.0123, "kl_divergence_99th_percentile": 0.3, "same_top_token": 0.97,
}  # fmt: skip
ANSWERS = [
    TimedAnswer("greeting", "Hi <you>?", model, f"from {model} & co", 2.0, 10, 0.5, 7, 3)
    for model in ("f16", "quantized")
]


def page_of(path: Path, answers: list[TimedAnswer]) -> str:
    """The text of a page, white space made single."""
    figures = {**FIGURES, **figures_of("f16", answers), **figures_of("quantized", answers), "n_threads": 3}
    trained = [("prompt <b>", "adapter's", "f16's")]
    write_report(str(path), "model-Q8_0.gguf", figures, answers, trained)
    return " ".join(path.read_text(encoding="utf-8").split())


def test_the_page_has_every_figure_with_its_unit(tmp_path):
    page = page_of(tmp_path / "report.html", ANSWERS)
    for figure in ("0.000123 nats", "1 of 2 greedy answers", "2.0 MB", "0.5 MB (-75.0 %)", "12,345 answered tokens",
                   "4.2000 (+5.00 %)", "0.01230, 0.3000", "97.00 %", "on 3 cores", "model-Q8_0.gguf"):  # fmt: skip
        assert figure in page, figure
    assert page.count("5.0 tokens/s") == 2


def test_what_a_model_said_is_text_and_no_markup(tmp_path):
    page = page_of(tmp_path / "report.html", ANSWERS)
    assert "Hi &lt;you&gt;?" in page
    assert "from f16 &amp; co" in page
    assert "prompt &lt;b&gt;" in page


def test_the_page_loads_nothing_from_elsewhere(tmp_path):
    assert not re.search(r"(src|href)=|url\(|@import", page_of(tmp_path / "report.html", ANSWERS))


def test_without_prompts_the_page_says_where_to_name_them(tmp_path):
    page = page_of(tmp_path / "report.html", [])
    assert "<code>evaluate.prompts</code>" in page
    assert "side by side" not in page
