"""``history.jsonl``: one JSON object a line, with a step and the measurements at that step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class History:
    """The measurements of one run; each is appended to the file at once."""

    def __init__(self, path: Path, resumed_from: Path | None, *, writes: bool) -> None:
        """Start with the entries in the checkpoint folder ``resumed_from``: later ones are measured again.

        Of several processes that train together only one ``writes``; the others keep the entries in memory.
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
        """Write all entries into a checkpoint's folder."""
        (folder / self.path.name).write_text(self._text())

    def eval_losses(self) -> dict[int, float]:
        """Validation loss by step; step 0 is the untuned base."""
        return {entry["step"]: entry["eval_loss"] for entry in self.entries if "eval_loss" in entry}

    def minutes(self) -> float:
        """Wall-clock minutes of training at the last entry."""
        return max((entry.get("minutes", 0.0) for entry in self.entries), default=0.0)

    def tokens_per_second(self) -> float:
        """Tokens per second of all steps, without the time of validations and checkpoints."""
        steps = [entry for entry in self.entries if entry.get("tokens_per_second")]
        seconds = sum(entry["tokens"] / entry["tokens_per_second"] for entry in steps)
        return round(sum(entry["tokens"] for entry in steps) / seconds, 1) if seconds else 0.0

    def best(self) -> tuple[int, float] | None:
        """Step and value of the lowest validation loss of the tuned model, or None before the first."""
        tuned = {step: loss for step, loss in self.eval_losses().items() if step > 0 and math.isfinite(loss)}
        return min(tuned.items(), key=lambda item: item[1]) if tuned else None

    def has_stopped_learning(self) -> bool:
        """Whether every gradient since the validation before the last one was zero.

        A step that is too large can leave such a model. Its losses are finite but do not change any more.
        """
        steps = sorted(self.eval_losses())
        if len(steps) < 2:
            return False
        recent = [entry.get("grad_norm") for entry in self.entries if "loss" in entry and entry["step"] > steps[-2]]
        return bool(recent) and all(norm == 0 for norm in recent)

    def validations_without_improvement(self, threshold: float) -> int:
        """The number of validations since the loss last fell below all earlier ones by more than ``threshold``."""
        lowest, since = float("inf"), 0
        for _, loss in sorted(self.eval_losses().items()):
            since = 0 if loss < lowest - threshold else since + 1
            lowest = min(lowest, loss)
        return since

    def _text(self) -> str:
        return "".join(json.dumps(entry) + "\n" for entry in self.entries)

    def _write_whole(self) -> None:
        temporary = self.path.with_suffix(".writing")
        temporary.write_text(self._text())
        os.replace(temporary, self.path)


def _entries_in(text: str) -> Iterator[Entry]:
    """The entries of a file; the last line may be incomplete where the process was killed."""
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
