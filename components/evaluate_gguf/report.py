"""What quantization costs, as a page a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment

from components.evaluate_gguf.generation import TimedAnswer

TEMPLATE = Path(__file__).parent / "report.html.jinja"


def write_report(
    path: str,
    file: str,
    figures: Mapping[str, float],
    answers: Sequence[TimedAnswer],
    against_training: Sequence[tuple[str, str, str]],
) -> None:
    """Write one HTML file without outside references; ``against_training``: prompt, the adapter's answer, f16's."""
    f16 = [answer for answer in answers if answer.model == "f16"]
    quantized = [answer for answer in answers if answer.model == "quantized"]
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        file=file, figures=figures, pairs=list(zip(f16, quantized, strict=True)), trained=against_training
    )
    Path(path).write_text(page, encoding="utf-8")
