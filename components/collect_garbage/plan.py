"""Which items go, and why: decided from listings alone, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from components.collect_garbage.items import Item, Kind, reference

# Of these the newest N stay; what else there is stays where one of them needs it.
COUNTED: tuple[Kind, ...] = ("model", "run", "sweep", "checkpoints", "submitted run")
UPLOAD_TIME = timedelta(days=1)
PLURALS: dict[Kind, str] = {"checkpoints": "checkpoint folders"}


@dataclass(frozen=True)
class Rules:
    """What stays. ``pins`` are references with the reason; ``needs`` are references by the reference of the item that
    needs them; ``unknown`` are, by place, the kinds of which it is not known who uses them, with the reason."""

    keep: int
    older_than: timedelta
    now: datetime
    pins: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, Mapping[Kind, str]] = field(default_factory=dict)
    needs: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What happens to one item of a place."""

    place: str
    item: Item
    goes: bool
    reason: str


def decide(places: Mapping[str, Iterable[Item]], rules: Rules) -> list[Decision]:
    """A decision for each item of each place, in their order.

    What a kept item of any place needs stays as well, as do those that this one needs.
    """
    entries = [(place, item) for place, items in places.items() for item in items]
    ranks = _ranks(entries)
    kept: dict[int, str] = {}
    for number, (place, item) in enumerate(entries):
        if reason := _own_reason(place, item, ranks[number], rules):
            kept[number] = reason
    _keep_needed(entries, kept, rules)
    return [
        Decision(place, item, number not in kept, kept.get(number) or _why_it_goes(item, rules))
        for number, (place, item) in enumerate(entries)
    ]


def _own_reason(place: str, item: Item, rank: int | None, rules: Rules) -> str | None:
    """Why an item stays on its own account, or None."""
    if item.held:
        return item.held
    if pinned := rules.pins.get(item.reference):
        return pinned
    if unknown := rules.unknown.get(place, {}).get(item.kind):
        return unknown
    if item.unfinished:
        young = rules.now - item.modified < UPLOAD_TIME
        return f"{item.unfinished}, less than a day ago: it may still be written" if young else None
    if rank is not None and rank < rules.keep:
        return f"one of the {rules.keep} newest {plural(item.kind)}"
    if rules.now - item.modified < rules.older_than:
        return f"younger than {duration(rules.older_than)}"
    return None


def _ranks(entries: Sequence[tuple[str, Item]]) -> list[int | None]:
    """How many newer items of its kind its place has, for each item; None where none are counted."""
    counted: dict[tuple[str, Kind], list[int]] = {}
    for number, (place, item) in enumerate(entries):
        if item.kind in COUNTED and not item.unfinished:
            counted.setdefault((place, item.kind), []).append(number)
    ranks: list[int | None] = [None] * len(entries)
    for numbers in counted.values():
        newest_first = sorted(numbers, key=lambda n: (entries[n][1].modified, entries[n][1].name), reverse=True)
        for rank, number in enumerate(newest_first):
            ranks[number] = rank
    return ranks


def _keep_needed(entries: Sequence[tuple[str, Item]], kept: dict[int, str], rules: Rules) -> None:
    """Add to ``kept`` what its items need, however many steps away."""
    named: dict[str, list[int]] = {}
    for number, (_, item) in enumerate(entries):
        named.setdefault(item.reference, []).append(number)
    waiting = list(kept)
    while waiting:
        item = entries[waiting.pop()][1]
        for needed in (*item.needs, *rules.needs.get(item.reference, ())):
            for number in named.get(needed, ()):
                if number not in kept:
                    kept[number] = f"{item.kind} {short(item.name)}, which stays, needs it"
                    waiting.append(number)


def _why_it_goes(item: Item, rules: Rules) -> str:
    if item.unfinished:
        return f"{item.unfinished}, more than a day ago"
    newest = f"not among the {rules.keep} newest, " if item.kind in COUNTED and rules.keep else ""
    unpinned = "not current, not pinned, " if item.kind == "model" else ""
    return f"{unpinned}{newest}not needed by what stays"


def pins_of_current(current: Mapping[str, str | None]) -> dict[str, str]:
    """The pins of the newest model of each store, given by the store's address."""
    return {reference("model", sha256): "the current model of its store" for sha256 in current.values() if sha256}


def plural(kind: Kind) -> str:
    """Several of a kind, in words."""
    return PLURALS.get(kind, f"{kind}s")


def parts(n: int) -> str:
    """A number of items in words."""
    return f"{n} part" if n == 1 else f"{n} parts"


def short(name: str) -> str:
    """The first digits of a sha256 or of a run's id; another name stays as it is."""
    if len(name) == 64 and "/" not in name:
        return name[:12]
    return name[:8] if len(name) == 36 and name.count("-") == 4 else name


def duration(time: timedelta) -> str:
    """A time in whole days, hours or minutes."""
    seconds = max(int(time.total_seconds()), 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if n := seconds // length:
            return f"{n} {unit}{'s' if n > 1 else ''}"
    return f"{seconds} seconds"
