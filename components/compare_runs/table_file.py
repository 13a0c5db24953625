"""Read runs from a table kept by hand: a CSV file with a line per run, or a line per evaluation.

Columns: ``run``; and any of ``group``, ``base_model``, ``dataset``, ``max_steps``, ``learning_rate``, ``lora_rank``,
``lora_alpha``, ``seed``, ``hardware``, ``step``, ``train_loss``, ``validation_loss``, ``test_loss``, ``minutes``,
``tokens_per_second``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.compare_runs.runs import ComparedRun, LossKind, Point
from components.errors import DataError

# The losses that a table may have, in order of preference: unseen rows before training rows.
LOSSES: dict[LossKind, str] = {"validation": "validation_loss", "test": "test_loss", "training": "train_loss"}
SETTINGS = ("max_steps", "learning_rate", "lora_rank", "lora_alpha")
NUMBERS = (*SETTINGS, *LOSSES.values(), "seed", "step", "minutes", "tokens_per_second")
TEXTS = ("group", "run", "base_model", "dataset", "hardware")

# The key under which the reader puts cells that have no column.
SURPLUS = "\0surplus"

Line = Mapping[str, str]


def read_table(path: Path) -> list[ComparedRun]:
    """The runs of a table, in its order. Losses of another data set, or of another kind, do not compare.

    Raises:
        DataError: it cannot be read, or a cell is not a number.
    """
    by_run: dict[tuple[str, str], list[Line]] = {}
    for number, line in _read_lines(path):
        _require_valid(line, f"{path}: line {number}")
        by_run.setdefault((line.get("group") or "", line["run"]), []).append(line)
    names = [run for _, run in by_run]
    return [
        _run(path, run if names.count(run) == 1 else f"{group}/{run}", group, lines)
        for (group, run), lines in by_run.items()
    ]


def _read_lines(path: Path) -> list[tuple[int, Line]]:
    """The lines of the table that are not empty, with their numbers."""
    if not path.is_file():
        raise DataError(f"{path}: no such table; give a .csv file, or folders of runs")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), restkey=SURPLUS)
        columns = list(reader.fieldnames or ())
        lines: list[tuple[int, Line]] = [(reader.line_num, line) for line in reader if any(line.values())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}); save it as one") from error
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise DataError(f"{path}: has the column {twice[0]!r} twice; leave one out")
    if "run" not in columns:
        raise DataError(f"{path}: has no column 'run'; its first line must name the columns: {', '.join(TEXTS)}, …")
    if unknown := [name for name in columns if name not in (*TEXTS, *NUMBERS)]:
        raise DataError(f"{path}: unknown column {unknown[0]!r}; known are {', '.join((*TEXTS, *NUMBERS))}")
    if not lines:
        raise DataError(f"{path}: holds no runs; add a line per run")
    return lines


def _require_valid(line: Line, where: str) -> None:
    if SURPLUS in line or not line["run"]:
        raise DataError(f"{where}: {'has more cells than columns' if SURPLUS in line else 'names no run'}; correct it")
    for name in NUMBERS:
        value = _number(line, name, where)
        if value is not None and name in LOSSES.values() and value <= 0:
            raise DataError(f"{where}: {name} = {value:g}: a loss is above 0; correct it, or leave the cell empty")


def _curve(lines: Sequence[Line], kind: LossKind) -> list[Point]:
    """The evaluations of a run, in the order of steps."""
    points = [
        Point(
            step=_step(line),
            minutes=_number(line, "minutes"),
            training_loss=_number(line, "train_loss"),
            loss=_number(line, LOSSES[kind]),
        )
        for line in lines
        if _step(line) > 0 or len(lines) == 1  # step 0 is the untuned base
    ]
    return sorted(points, key=lambda point: point.step)


def _run(path: Path, name: str, group: str, lines: Sequence[Line]) -> ComparedRun:
    kinds = [kind for kind, column in LOSSES.items() if any(line.get(column) for line in lines)]
    kind: LossKind = kinds[0] if kinds else "validation"
    first = lines[0]
    base_model, data = first.get("base_model") or "", first.get("dataset") or ""
    settings = {name: value for name in SETTINGS if (value := _number(first, name)) is not None}
    curve = _curve(lines, kind)
    if not curve:
        raise DataError(f"{path}: {name} has {len(lines)} lines without a step; give each its step, or keep one line")
    minutes = [point.minutes for point in curve if point.minutes is not None]
    seed = _number(first, "seed")
    return ComparedRun(
        name=name,
        # Training losses are means over different last batches unless the runs are of one group.
        measured_on=f"{data}, {kind}" if kind != "training" else f"{data}, training, {group}",
        loss_kind=kind,
        base_model=base_model,
        data=data,
        steps=curve[-1].step,
        settings={**settings, "base_model": base_model, "data": data},
        seed=None if seed is None else int(seed),
        hardware=first.get("hardware") or None,
        minutes=max(minutes) if minutes else None,
        tokens_per_second=_number(first, "tokens_per_second"),
        curve=curve,
    )


def _step(line: Line) -> int:
    step = _number(line, "step")
    return int((_number(line, "max_steps") or 0) if step is None else step)


def _number(line: Line, name: str, where: str = "") -> float | None:
    text = (line.get(name) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
    except ValueError:
        raise DataError(f"{where}: {name} = {text!r} is not a number; correct it, or leave the cell empty") from None
    return int(value) if value.is_integer() else value
