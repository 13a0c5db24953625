"""Loss curves as a picture."""

from __future__ import annotations

from pathlib import Path

from components.compare_runs.compare import Comparison
from components.compare_runs.runs import ComparedRun

# Readable on white, told apart by the colour-blind too (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8B00")
MARKERS = ("o", "s", "^", "D")
MAX_NAMED = 20


def draw(comparison: Comparison, path: str | Path) -> None:
    """Write a PNG: a panel for each set of losses that compare; by minutes where equal minutes are asked for."""
    from matplotlib.figure import Figure

    by_minutes = comparison.config.at_minutes is not None
    figure = Figure(figsize=(10, 4.2 * len(comparison.sets)), dpi=110, layout="constrained")
    panels = figure.subplots(len(comparison.sets), 1, squeeze=False)[:, 0]
    for panel, compared in zip(panels, comparison.sets, strict=True):
        for number, name in enumerate(compared.runs):
            run = comparison.run(name)
            places, losses = _points(run, by_minutes)
            if places:
                failed = run.status != "finished"
                panel.plot(
                    places, losses,
                    color=COLOURS[number % len(COLOURS)],
                    marker=MARKERS[number // len(COLOURS) % len(MARKERS)], markersize=4, linewidth=1.6,
                    linestyle="--" if failed or run.stopped_early else "-",
                    label=_label(run) if number < MAX_NAMED else None,
                )  # fmt: skip
        panel.set_title(compared.label, loc="left", fontsize=10, wrap=True)
        panel.set_xlabel("minutes of training" if by_minutes else "step")
        panel.set_ylabel(f"{compared.loss_kind} loss, nats a token")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if panel.lines:
            panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        if by_minutes:
            panel.axvline(comparison.config.at_minutes, color="#888", linewidth=1)
    figure.savefig(str(path), format="png")


def _points(run: ComparedRun, by_minutes: bool) -> tuple[list[float], list[float]]:
    told = [
        (float(point.minutes or 0.0) if by_minutes else float(point.step), point.loss)
        for point in run.measured
        if point.loss is not None and not (by_minutes and point.minutes is None)
    ]
    return [place for place, _ in told], [loss for _, loss in told]


def _label(run: ComparedRun) -> str:
    if run.status != "finished":
        return f"{run.name} ({run.status.replace('_', ' ')})"
    return f"{run.name} (not continued)" if run.stopped_early else run.name
