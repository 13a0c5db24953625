"""The effect of each setting on the loss, from pairs of runs that differ in that setting alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict


class Effect(BaseModel):
    """A change of one setting; ``changes`` has the relative change of the loss for each of ``pairs``."""

    model_config = ConfigDict(frozen=True)

    setting: str
    before: Any
    after: Any
    pairs: list[tuple[str, str]]
    changes: list[float]

    @property
    def mean(self) -> float:
        """The mean relative change: negative is better."""
        return sum(self.changes) / len(self.changes)


def effects(candidates: Sequence[tuple[str, Mapping[str, Any], float]]) -> list[Effect]:
    """The effect of each setting; ``candidates`` are name, settings and loss."""
    found: dict[tuple[str, str, str], Effect] = {}
    for first, second in combinations(candidates, 2):
        setting = _only_difference(first[1], second[1])
        if setting is None:
            continue
        before, after = sorted((first, second), key=lambda one: _sort_key(one[1][setting]))
        key = (setting, repr(before[1][setting]), repr(after[1][setting]))
        effect = found.setdefault(
            key,
            Effect(setting=setting, before=before[1][setting], after=after[1][setting], pairs=[], changes=[]),
        )
        effect.pairs.append((before[0], after[0]))
        effect.changes.append(after[2] / before[2] - 1 if before[2] else 0.0)
    return sorted(found.values(), key=lambda one: (one.setting, _sort_key(one.before), _sort_key(one.after)))


def _only_difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """The one setting in which two runs differ; None where there are several, or none."""
    if first.keys() != second.keys():
        return None  # a setting that a table does not have may differ as well
    differing = [key for key in first if first[key] != second[key]]
    return differing[0] if len(differing) == 1 else None


def _sort_key(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then texts."""
    is_number = isinstance(value, int | float)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))
