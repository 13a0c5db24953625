"""Tables on the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from pipelines.terminal.summary import show, show_trials


def table(text: str) -> dict[str, list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("│┃").split("│")] for line in text.splitlines() if line.startswith("│")
    ]
    return {row[0]: row[1:] for row in rows}


def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_has_a_row_for_each_step_that_measured_something_in_the_order_of_the_steps(tmp_path):
    out = console()
    figures = {
        "gate": {"tuned_validation_loss": 0.25},
        "split_data": {"read": 24, "train": 18, "validation": 4, "test": 2, "unused": 0, "dropped": 0},
        "evaluate": {},
    }
    show(out, "tiny-1", figures, {"split_data": 0.05, "gate": 0.0}, {"log": tmp_path / "log.txt"})
    rows = table(text_of(out))
    assert list(rows) == ["split_data", "gate"]
    assert rows["split_data"][0] == "3 s"
    assert rows["split_data"][1].startswith("24 rows read: 18 train, 4 validation")
    assert rows["gate"] == ["reused", "tuned_validation_loss 0.25"]
    assert text_of(out).splitlines()[-1] == f"{'log':<20}{tmp_path / 'log.txt'}"


def test_trials_are_shown_by_the_settings_in_which_they_differ():
    out = console()
    show_trials(
        out, {"a": {"train.seed": 1, "train.lora_rank": 8}, "b": {"train.seed": 2, "train.lora_rank": 8}, "c": {}}
    )
    assert table(text_of(out)) == {"a": ["1", "8"], "b": ["2", "8"], "c": ["", ""]}
    out = console()
    show_trials(out, {"a": {"train.seed": 1, "train.lora_rank": 8}, "b": {"train.seed": 2, "train.lora_rank": 8}})
    assert table(text_of(out)) == {"a": ["1"], "b": ["2"]}
