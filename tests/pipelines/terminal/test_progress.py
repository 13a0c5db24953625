"""Progress on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipelines.terminal.progress import Progress
from pipelines.terminal.user_errors import user_error


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_gets_a_line_for_each_thing_that_happens():
    console = plain_console()
    with Progress(console) as progress:
        progress.started("split_data")
        progress.line("split_data", "row 1/2 read")
        progress.finished("split_data", 1.5, "24 rows")
        progress.reused("train_lora")
        progress.failed("evaluate")
        progress.note("[its] page")
    assert printed(console) == [
        "split_data: started", "split_data: row 1/2 read", "split_data: finished in 1.5 s: 24 rows",
        "train_lora: unchanged, reused", "evaluate: failed", "[its] page",
    ]  # fmt: skip
    assert progress.minutes == {"split_data": 1.5 / 60, "train_lora": 0.0}


def test_a_step_that_was_not_seen_to_start_has_lines_all_the_same():
    console = plain_console()
    with Progress(console) as progress:
        progress.line("train_lora", "step 1/6 loss 2.0")
        progress.failed("train_lora", "canceled")
    assert printed(console) == ["train_lora: step 1/6 loss 2.0", "train_lora: canceled"]


def test_a_reused_step_is_finished_and_what_is_printed_after_the_end_stands_below():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress(console) as progress:
        progress.reused("split_data")
        assert progress._live.finished, "its spinner and its clock stand still"
        progress.stop()
        progress.note("the table")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().rstrip().endswith("the table")


def test_a_terminal_shows_how_far_a_step_is():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Progress(console) as progress:
        progress.started("train_lora")
        progress.line("train_lora", "step 3/6 loss 2.0")
        (task,) = progress._live.tasks
        assert (task.completed, task.total) == (3, 6)
        assert task.fields["detail"] == "3/6 loss 2.0"
        progress.finished("train_lora", 1.0)
        assert task.finished
    assert isinstance(console.file, io.StringIO)
    assert "train_lora: started" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["components.errors.DataError: a.jsonl: line 7", "step 1"], "a.jsonl: line 7"),
        (["components.errors.DataError: first", "components.errors.ModelError: last"], "last"),
        (["ValueError: a bug"], None),
        (["  components.errors.DataError: quoted within a frame"], None),
        ([], None),
    ],
)
def test_the_last_error_that_a_user_can_correct_is_found(lines, message):
    assert user_error(lines) == message
