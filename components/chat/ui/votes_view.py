"""All votes and speeds by model, summed over all users."""

from __future__ import annotations

import gradio as gr

from components.chat.storage.comparisons import Comparisons
from components.chat.ui.assets import table

HEADINGS = ("Model", "Won", "Lost", "Same", "Share", "First token", "Whole answer", "Speed")


def draw_votes(comparisons: Comparisons, page: gr.Blocks, tab: gr.Tab) -> None:
    """Draw the table within a ``gr.Blocks``; it is filled each time that the tab is opened."""
    gr.Markdown("Votes of all comparisons. Seconds and rates are medians over all answers compared.")
    summary = gr.HTML(elem_id="votes")

    def fill() -> str:
        return votes_table(comparisons)

    gr.on([tab.select, page.load], fill, None, [summary], queue=False, api_visibility="private")


def votes_table(comparisons: Comparisons) -> str:
    """The standings of all models as HTML, best first."""
    rows = [
        (
            model, str(one.wins), str(one.losses), str(one.ties), _percent(one.share),
            _number(one.median_of("first_token_seconds"), "s"), _number(one.median_of("seconds"), "s"),
            _number(one.median_of("tokens_per_second"), "tokens/s"),
        )
        for model, one in comparisons.standings().items()
    ]  # fmt: skip
    return table(HEADINGS, rows) if rows else "<p>No comparison yet.</p>"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"
