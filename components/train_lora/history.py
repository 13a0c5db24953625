"""``history.jsonl``: one JSON object a line, with the step and what was measured there."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class History:
    """The measurements of one run, on disk as they come."""

    def __init__(self, path: Path, resumed_from: Path | None, *, writes: bool) -> None:
        """Begin with what a checkpoint's folder holds of it, or with nothing: the rest will be measured again.

        Of several processes that train together one ``writes``; the others keep it in memory.
        """
        self.path = path
        self.writes = writes
        saved = None if resumed_from is None else resumed_from / path.name
        self.entries: list[Entry] = []
        if saved is not None and saved.is_file():
            self.entries = list(_entries_in(saved.read_text()))
        if writes:
            self._write_whole()

    def add(self, **entry: Any) -> None:
        """Append one measurement."""
        self.entries.append(entry)
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def save(self, folder: Path) -> None:
        """Write everything that was measured into a checkpoint's folder."""
        (folder / self.path.name).write_text(self._text())

    def eval_losses(self) -> dict[int, float]:
        """Validation loss by step; step 0 is the untuned base."""
        return {entry["step"]: entry["eval_loss"] for entry in self.entries if "eval_loss" in entry}

    def minutes(self) -> float:
        """Wall-clock minutes of training up to the last entry."""
        return max((entry.get("minutes", 0.0) for entry in self.entries), default=0.0)

    def tokens_per_second(self) -> float:
        """Tokens of all steps over their seconds, validation and checkpoints left out."""
        steps = [entry for entry in self.entries if entry.get("tokens_per_second")]
        seconds = sum(entry["tokens"] / entry["tokens_per_second"] for entry in steps)
        return round(sum(entry["tokens"] for entry in steps) / seconds, 1) if seconds else 0.0

    def best(self) -> tuple[int, float] | None:
        """Step and value of the lowest validation loss of the tuned model, or None before the first."""
        tuned = {step: loss for step, loss in self.eval_losses().items() if step > 0 and math.isfinite(loss)}
        return min(tuned.items(), key=lambda item: item[1]) if tuned else None

    def is_dead(self) -> bool:
        """Whether every gradient since the validation before the last one was zero: nothing is learned any more.

        Too large a step can leave such a model. Its losses are numbers, and stay what they are.
        """
        steps = sorted(self.eval_losses())
        if len(steps) < 2:
            return False
        lately = [entry.get("grad_norm") for entry in self.entries if "loss" in entry and entry["step"] > steps[-2]]
        return bool(lately) and all(norm == 0 for norm in lately)

    def validations_without_gain(self, threshold: float) -> int:
        """How many validations ago the loss was last lower by more than ``threshold`` than ever before."""
        lowest, since = float("inf"), 0
        for _, loss in sorted(self.eval_losses().items()):
            since = 0 if loss < lowest - threshold else since + 1
            lowest = min(lowest, loss)
        return since

    def _text(self) -> str:
        return "".join(json.dumps(entry) + "\n" for entry in self.entries)

    def _write_whole(self) -> None:
        aside = self.path.with_suffix(".writing")
        aside.write_text(self._text())
        os.replace(aside, self.path)


def _entries_in(text: str) -> Iterator[Entry]:
    """The measurements of a file, whose last line may be written by half: the process was killed."""
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
