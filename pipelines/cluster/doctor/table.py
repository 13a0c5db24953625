"""The doctor's rows as a table on a terminal, as plain lines elsewhere, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.cluster.doctor.row import Row

COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the table, then what corrects each row that is not ok: whole commands, to copy."""
    if console.is_terminal:
        _show_table(console, rows)
        for fix in dict.fromkeys(row.fix for row in rows if row.state != "ok" and row.fix):
            corrected = [f"{row.group}: {row.check}" for row in rows if row.state != "ok" and row.fix == fix]
            _line(console, f"\n{'; '.join(corrected)}\n  {fix}")
    else:
        for row in rows:
            _line(console, f"{row.state:<8} {row.group}: {row.check}: {row.found}")
            if row.state != "ok" and row.fix:
                _line(console, f"         {row.fix}")
    _line(console, f"\n{summary(rows)}" if console.is_terminal else summary(rows))


def summary(rows: Sequence[Row]) -> str:
    """``21 ok, 3 warnings, 1 missing``."""
    count = Counter(row.state for row in rows)
    return f"{count['ok']} ok, {count['warning']} warnings, {count['missing']} missing"


def as_json(rows: Sequence[Row]) -> str:
    """The rows as a list of objects."""
    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False)


def _show_table(console: Console, rows: Sequence[Row]) -> None:
    table = Table("check", "", "found", box=None, pad_edge=False)
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            table.add_row(Text(group, style="bold"), "", "")
        table.add_row(Text(f"  {row.check}"), Text(row.state, style=COLOURS[row.state]), Text(row.found))
    console.print(table)


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
