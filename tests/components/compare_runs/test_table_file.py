"""Tables that were kept by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.compare_runs.runs import ComparedRun
from components.compare_runs.table_file import NUMBERS, TEXTS, read_table
from components.errors import DataError


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "runs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table(folder: Path, text: str) -> list[ComparedRun]:
    return read_table(write(folder, text))


def test_every_column_of_a_run_is_read(tmp_path):
    (run,) = table(
        tmp_path,
        "group,run,base_model,dataset,max_steps,learning_rate,lora_rank,lora_alpha,seed,hardware,step,"
        "validation_loss,train_loss,minutes,tokens_per_second\n"
        "g,a,base,set,100,1e-4,8,16,3,1 x T4,50,1.5,1.6,2.5,900\n",
    )
    assert (run.name, run.base_model, run.data, run.steps, run.seed) == ("a", "base", "set", 50, 3)
    assert (run.hardware, run.minutes, run.tokens_per_second, run.loss) == ("1 x T4", 2.5, 900, 1.5)
    assert run.curve[0].training_loss == 1.6
    assert run.settings == {
        "max_steps": 100, "learning_rate": 1e-4, "lora_rank": 8, "lora_alpha": 16, "base_model": "base", "data": "set",
    }  # fmt: skip


def test_several_lines_of_a_run_are_its_evaluations_by_step(tmp_path):
    lines = "run,max_steps,step,validation_loss,minutes\na,100,100,1.1,9\na,100,50,1.5,4\na,100,0,3.3,0\n"
    (run,) = table(tmp_path, lines)
    assert [(point.step, point.loss) for point in run.curve] == [(50, 1.5), (100, 1.1)]
    assert (run.loss, run.steps, run.minutes) == (1.1, 100, 9)


@pytest.mark.parametrize(
    ("columns", "kind", "loss"),
    [
        ("train_loss,test_loss,validation_loss", "validation", 3),
        ("train_loss,test_loss", "test", 2),
        ("train_loss", "training", 1),
    ],
)
def test_the_loss_that_says_most_of_unseen_rows_is_taken(tmp_path, columns, kind, loss):
    (run,) = table(tmp_path, f"run,step,{columns}\na,5,{','.join('123'[: columns.count(',') + 1])}\n")
    assert (run.loss_kind, run.loss) == (kind, loss)


def test_losses_compare_within_a_data_set_and_training_losses_within_a_group(tmp_path):
    runs = table(tmp_path, "group,run,dataset,step,validation_loss\ng,a,x,1,1\nh,b,x,1,1\nh,c,y,1,1\n")
    assert runs[0].measured_on == runs[1].measured_on != runs[2].measured_on
    runs = table(tmp_path, "group,run,dataset,step,train_loss\ng,a,x,1,1\ng,b,x,1,1\nh,c,x,1,1\n")
    assert runs[0].measured_on == runs[1].measured_on != runs[2].measured_on


def test_runs_of_one_name_are_named_with_their_group(tmp_path):
    names = [run.name for run in table(tmp_path, "group,run,step\ng,a,1\nh,a,1\nh,b,1\n")]
    assert names == ["g/a", "h/a", "b"]


def test_a_run_without_steps_is_as_long_as_its_schedule(tmp_path):
    (run,) = table(tmp_path, "run,max_steps,validation_loss\na,60,1.5\n")
    assert (run.steps, run.loss, run.minutes, run.hardware) == (60, 1.5, None, None)


def test_a_byte_order_mark_empty_lines_and_empty_cells_are_allowed(tmp_path):
    runs = read_table(write(tmp_path, b"\xef\xbb\xbfrun,step,seed\n\na,1,\n,,\n\nb,2,\n"))
    assert [(run.name, run.seed) for run in runs] == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("name,loss\na,1\n", ["no column 'run'", *TEXTS]),
        ("", ["no column 'run'"]),
        ("run,los\na,1\n", ["unknown column 'los'", *NUMBERS]),
        ("run,run\na,b\n", ["the column 'run' twice"]),
        ("run,validation_loss\n", ["holds no runs"]),
        ("run,validation_loss\na,low\n", ["line 2", "validation_loss = 'low' is not a number"]),
        ("run,validation_loss\n\n\na,low\n", ["line 4"]),
        ("run,validation_loss\na,0\n", ["line 2", "validation_loss = 0", "a loss is above 0"]),
        ("run,step\na,inf\n", ["line 2", "step = 'inf' is not a number"]),
        ("run,step\na,1,2\n", ["line 2", "more cells than columns"]),
        ("run,step\na,1\n,1\n", ["line 3", "names no run"]),
        ("run,validation_loss\na,1\na,2\n", ["a has 2 lines without a step"]),
        ("group,run,validation_loss\ng,a,1\ng,a,2\nh,a,3\n", ["g/a has 2 lines without a step"]),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error_with_file_and_line(tmp_path, text, facts):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
    for fact in facts:
        assert fact in str(caught.value)


def test_a_table_that_is_missing_or_in_another_encoding_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such table"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"runs\.csv: not a CSV table in UTF-8"):
        read_table(write(tmp_path, "run\nBärchen\n".encode("latin-1")))
