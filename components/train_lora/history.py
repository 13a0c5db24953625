"""``history.jsonl``: one JSON object a line, with the step and what was measured there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class History:
    """The measurements of one run, on disk as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = _read(path) if path.is_file() else []

    def cut(self, step: int | None) -> None:
        """Forget what was measured after ``step`` (None: everything), because it will be measured again."""
        self.entries = [] if step is None else [entry for entry in self.entries if entry["step"] <= step]
        self.path.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries))

    def add(self, **entry: Any) -> None:
        """Append one measurement."""
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def eval_losses(self) -> dict[int, float]:
        """Validation loss by step; step 0 is the untuned base."""
        return {entry["step"]: entry["eval_loss"] for entry in self.entries if "eval_loss" in entry}

    def minutes(self) -> float:
        """Wall-clock minutes of training up to the last entry."""
        return max((entry.get("minutes", 0.0) for entry in self.entries), default=0.0)

    def tokens_per_second(self) -> float:
        """The mean of what was logged."""
        rates = [entry["tokens_per_second"] for entry in self.entries if "tokens_per_second" in entry]
        return round(sum(rates) / len(rates), 1) if rates else 0.0

    def best(self) -> tuple[int, float] | None:
        """Step and value of the lowest validation loss of the tuned model, or None before the first."""
        tuned = {step: loss for step, loss in self.eval_losses().items() if step > 0}
        return min(tuned.items(), key=lambda item: item[1]) if tuned else None


def _read(path: Path) -> list[Entry]:
    entries = []
    for line in path.read_text().splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a kill can leave half a line at the end
    return entries
