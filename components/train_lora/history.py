"""``history.jsonl``: one JSON object a line, with the step and what was measured there."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
# A validation loss is above the untuned base's when it is so by more than rounding.
ABOVE = 1.001


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
            self.entries = [json.loads(line) for line in saved.read_text().splitlines()]
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

    def has_lost_its_way(self) -> bool:
        """Whether the last two validation losses are above the untuned base's, and training has lowered no loss.

        Too large a step can leave a model whose gradients are zero: its losses are numbers, and stay what they are.
        """
        losses = sorted(self.eval_losses().items())
        if len(losses) < 3 or losses[0][0] != 0:
            return False
        (_, base), *_, (before, second_last), (_, last) = losses
        trained = [entry for entry in self.entries if "loss" in entry]
        lately = [entry["loss"] for entry in trained if entry["step"] > before]
        at_first = [entry["loss"] for entry in trained][: len(lately)]
        is_above = min(second_last, last) > ABOVE * base
        return is_above and sum(lately) >= sum(at_first)

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
