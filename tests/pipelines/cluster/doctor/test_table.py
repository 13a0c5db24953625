"""The rows on a terminal, in a log, and as JSON."""

from __future__ import annotations

import io
import json

from rich.console import Console

from pipelines.cluster.doctor.row import Row
from pipelines.cluster.doctor.table import as_json, show

LONG = "kubectl " + " ".join(f"word{number}" for number in range(60))
ROWS = [Row("storage", "claims", "ok", "Bound", "never shown"), Row("images", "chat", "missing", "no [image]", LONG)]


def printed(is_terminal: bool) -> str:
    file = io.StringIO()
    show(Console(file=file, force_terminal=is_terminal, width=80, color_system=None), ROWS)
    return file.getvalue()


def test_a_command_is_one_line_to_be_copied_however_narrow_the_terminal_is():
    for is_terminal in (True, False):
        assert LONG in [line.strip() for line in printed(is_terminal).splitlines()]
        assert "never shown" not in printed(is_terminal)


def test_a_command_that_corrects_several_rows_is_shown_once_on_a_terminal():
    file = io.StringIO()
    several = [Row("images", name, "missing", "no image", LONG) for name in ("chat", "model-server")]
    show(Console(file=file, force_terminal=True, width=80, color_system=None), several)
    assert file.getvalue().count(LONG) == 1
    assert "images: chat; images: model-server" in file.getvalue()


def test_a_log_has_a_line_for_each_row():
    first, second, *_, last = printed(False).splitlines()
    assert first == "ok       storage: claims: Bound"
    assert second == "missing  images: chat: no [image]"
    assert last == "1 ok, 0 warnings, 1 missing"


def test_json_has_every_field_of_every_row():
    assert json.loads(as_json(ROWS))[1] == {
        "group": "images", "check": "chat", "state": "missing", "found": "no [image]", "fix": LONG,
    }  # fmt: skip
