"""Draw the loss curves as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.compare_runs.compare import ComparedSet, Comparison
from components.compare_runs.runs import ComparedRun

# Readable on white, and distinguishable with colour blindness (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8B00")
MARKERS = ("o", "s", "^", "D")
MAX_NAMED = 20


def draw(comparison: Comparison, path: str | Path) -> None:
    """Write a PNG with a panel for each set of losses that compare, by minutes where equal minutes are compared."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2 * len(comparison.sets)), dpi=110, layout="constrained")
    panels = figure.subplots(len(comparison.sets), 1, squeeze=False)[:, 0]
    for panel, compared in zip(panels, comparison.sets, strict=True):
        _draw_panel(panel, compared, comparison)
    figure.savefig(str(path), format="png")


def _draw_panel(panel: Any, compared: ComparedSet, comparison: Comparison) -> None:
    by_minutes = comparison.config.at_minutes is not None
    for number, name in enumerate(compared.runs):
        run = comparison.run(name)
        positions, losses = points_of(run, by_minutes=by_minutes)
        if positions:
            failed = run.status != "finished"
            panel.plot(
                positions, losses,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number // len(COLOURS) % len(MARKERS)], markersize=4, linewidth=1.6,
                linestyle="--" if failed or run.stopped_early else "-",
                label=label_of(run) if number < MAX_NAMED else None,
            )  # fmt: skip
    panel.set_title(compared.label, loc="left", fontsize=10, wrap=True)
    panel.set_xlabel("minutes of training" if by_minutes else "step")
    panel.set_ylabel(f"{compared.loss_kind} loss, nats per token")
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    if panel.lines:
        panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    if by_minutes:
        panel.axvline(comparison.config.at_minutes, color="#888", linewidth=1)


def points_of(run: ComparedRun, *, by_minutes: bool) -> tuple[list[float], list[float]]:
    """The steps of the evaluations, or their minutes, and the losses."""
    points = [
        (float(point.minutes or 0.0) if by_minutes else float(point.step), point.loss)
        for point in run.measured
        if point.loss is not None and not (by_minutes and point.minutes is None)
    ]
    return [position for position, _ in points], [loss for _, loss in points]


def label_of(run: ComparedRun) -> str:
    """The run's name, with its outcome where it did not finish."""
    if run.status != "finished":
        return f"{run.name} ({run.status.replace('_', ' ')})"
    return f"{run.name} (not continued)" if run.stopped_early else run.name
