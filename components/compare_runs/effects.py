"""What each setting does to the loss with all others held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict


class Effect(BaseModel):
    """A change of one setting; ``changes`` has the relative change of the loss in each pair of runs alike otherwise."""

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
        if first[1].keys() != second[1].keys():
            continue  # what a table does not tell may differ as well
        differing = [key for key in first[1] if first[1][key] != second[1][key]]
        if len(differing) != 1:
            continue
        (key,) = differing
        before, after = sorted((first, second), key=lambda one: _order(one[1][key]))
        values = before[1][key], after[1][key]
        change = after[2] / before[2] - 1 if before[2] else 0.0
        place = (key, repr(values[0]), repr(values[1]))
        known = found.get(place)
        found[place] = Effect(
            setting=key,
            before=values[0],
            after=values[1],
            pairs=[*(known.pairs if known else []), (before[0], after[0])],
            changes=[*(known.changes if known else []), change],
        )
    return sorted(found.values(), key=lambda effect: (effect.setting, _order(effect.before), _order(effect.after)))


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then texts."""
    is_number = isinstance(value, int | float)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))
