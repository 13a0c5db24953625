"""The table of ``lorry gc``, its sums, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from components.collect_garbage.items import Outcome
from components.collect_garbage.plan import Decision, duration, plural, short
from pipelines.garbage.collect import Plan

MAX_NAMES = 3


def show(console: Console, plan: Plan) -> None:
    """Print what goes, each with its reason, and what stays, by reason."""
    for line in (*plan.looked_at, *plan.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for place in dict.fromkeys(one.place for one in plan.decisions):
        own = [one for one in plan.decisions if one.place == place]
        table = Table(title=place, title_justify="left", title_style="bold")
        for column, width in (("", 5), ("what", 11), ("name", 16)):
            table.add_column(column, overflow="fold", min_width=width)
        for column in ("size", "age"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("because", overflow="fold")
        for row in (*_going(own), *_staying(own)):
            table.add_row(*row)
        console.print(table, markup=False)
    going = plan.going
    staying = [one for one in plan.decisions if not one.goes]
    console.print(
        f"can go: {len(going)} parts, {size(_bytes(going))}; stays: {len(staying)} parts, {size(_bytes(staying))}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _going(decisions: Sequence[Decision]) -> Iterable[tuple[str, ...]]:
    for one in (one for one in decisions if one.goes):
        item = one.item
        yield "goes", item.kind, short(item.name), size(item.size_bytes), _age(item.modified), one.reason


def _staying(decisions: Sequence[Decision]) -> Iterable[tuple[str, ...]]:
    """A row for each kind and reason: a folder of a year has hundreds that stay."""
    groups: dict[tuple[str, str], list[Decision]] = {}
    for one in (one for one in decisions if not one.goes):
        groups.setdefault((one.item.kind, one.reason), []).append(one)
    for (_, reason), group in groups.items():
        kind = group[0].item.kind
        names = ", ".join(short(one.item.name) for one in group[:MAX_NAMES])
        more = f" and {len(group) - MAX_NAMES} more" if len(group) > MAX_NAMES else ""
        what = kind if len(group) == 1 else f"{len(group)} {plural(kind)}"
        newest = max(one.item.modified for one in group)
        yield "stays", what, names + more, size(_bytes(group)), _age(newest), reason


def show_outcomes(console: Console, outcomes: Sequence[tuple[str, Outcome]]) -> None:
    """Print what was freed, and each item that stayed in spite of the plan."""
    for place, outcome in outcomes:
        if outcome.kept_because:
            line = f"{place}: {outcome.kind} {short(outcome.name)} stays: {outcome.kept_because}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    gone = [outcome for _, outcome in outcomes if outcome.kept_because is None]
    freed = sum(outcome.size_bytes for outcome in gone)
    console.print(f"deleted: {len(gone)} parts, {size(freed)}", markup=False, highlight=False)


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


def _age(modified: datetime) -> str:
    return duration(datetime.now(UTC) - modified)
