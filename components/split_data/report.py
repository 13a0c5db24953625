"""The split's summary as an HTML page."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment

from components.split_data.outcomes import SPLITS
from components.split_data.summary import Summary

TEMPLATE = Path(__file__).parent / "report.html.jinja"


def write_page(path: str, summary: Summary) -> None:
    """Write the summary as one HTML file without outside references."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    shares = {
        name: [count / max(1, sum(counts)) for count in counts] for name, counts in summary.lengths.counts.items()
    }
    tallest = max((share for own in shares.values() for share in own), default=1.0)
    page = template.render(summary=summary, splits=SPLITS, shares=shares, tallest=tallest)
    Path(path).write_text(page, encoding="utf-8")
