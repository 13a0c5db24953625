"""The table of ``lorry gc``, its sums, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from components.collect_garbage.items import Outcome
from components.collect_garbage.plan import Decision, duration, parts, plural, short
from pipelines.garbage.collect import Plan

MAX_NAMES = 3


def show(console: Console, plan: Plan) -> None:
    """Print what goes and what stays, below its reason, place by place."""
    lines = [*plan.looked_at, *plan.notes]
    for place in dict.fromkeys(one.place for one in plan.decisions):
        own = [one for one in plan.decisions if one.place == place]
        lines += ["", place, *_going(own), *_staying(own)]
    going, staying = plan.going, [one for one in plan.decisions if not one.goes]
    lines += ["", f"can go: {_sum(going)}; stays: {_sum(staying)}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _going(decisions: Sequence[Decision]) -> Iterator[str]:
    """A line for each, below its reason, the largest first."""
    for reason, group in _by_reason(one for one in decisions if one.goes).items():
        yield f"  goes: {reason}"
        for one in sorted(group, key=lambda one: -one.item.size_bytes):
            yield _line(one.item.kind, [one])


def _staying(decisions: Sequence[Decision]) -> Iterator[str]:
    """A line for each kind and reason: a folder of a year has hundreds that stay."""
    for reason, group in _by_reason(one for one in decisions if not one.goes).items():
        yield f"  stays: {reason}"
        for kind in dict.fromkeys(one.item.kind for one in group):
            own = [one for one in group if one.item.kind == kind]
            yield _line(kind if len(own) == 1 else f"{len(own)} {plural(kind)}", own)


def _by_reason(decisions: Iterable[Decision]) -> dict[str, list[Decision]]:
    groups: dict[str, list[Decision]] = {}
    for one in decisions:
        groups.setdefault(one.reason, []).append(one)
    return groups


def _line(what: str, decisions: Sequence[Decision]) -> str:
    """What it is, size, age of the newest, and names."""
    names = ", ".join(short(one.item.name) for one in decisions[:MAX_NAMES])
    more = f" and {len(decisions) - MAX_NAMES} more" if len(decisions) > MAX_NAMES else ""
    age = duration(datetime.now(UTC) - max(one.item.modified for one in decisions))
    return f"    {what:<22} {size(_bytes(decisions)):>9}  {age:>10}  {names}{more}"


def show_outcomes(console: Console, outcomes: Sequence[tuple[str, Outcome]]) -> None:
    """Print what was freed, and why each other item of the plan was not deleted."""
    for place, outcome in outcomes:
        if outcome.kept_because:
            line = f"{place}: {outcome.kind} {short(outcome.name)} was not deleted: {outcome.kept_because}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    gone = [outcome for _, outcome in outcomes if outcome.kept_because is None]
    freed = sum(outcome.size_bytes for outcome in gone)
    console.print(f"deleted: {parts(len(gone))}, {size(freed)}", markup=False, highlight=False)


def as_json(plan: Plan, outcomes: Sequence[tuple[str, Outcome]]) -> dict[str, Any]:
    """Everything that the table shows, and every item that stays."""
    return {
        "looked_at": plan.looked_at,
        "notes": plan.notes,
        "items": [
            {
                "place": one.place, "kind": one.item.kind, "name": one.item.name, "size_bytes": one.item.size_bytes,
                "modified": one.item.modified.isoformat(), "goes": one.goes, "reason": one.reason,
            }
            for one in plan.decisions
        ],
        "outcomes": [{"place": place, **outcome.model_dump()} for place, outcome in outcomes],
    }  # fmt: skip


def size(n_bytes: int) -> str:
    """A size with its unit."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= power:
            return f"{n_bytes / power:.1f} {unit}"
    return f"{n_bytes} B"


def _bytes(decisions: Iterable[Decision]) -> int:
    return sum(one.item.size_bytes for one in decisions)


def _sum(decisions: Sequence[Decision]) -> str:
    return f"{parts(len(decisions))}, {size(_bytes(decisions))}"
