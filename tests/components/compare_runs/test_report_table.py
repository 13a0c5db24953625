"""The table of a report."""

from __future__ import annotations

import pytest

from components.compare_runs.report_table import short_data, table_of
from components.compare_runs.runs import ComparedRun
from tests.components.compare_runs.runs import a_run, compared


def cells(*runs: ComparedRun, brief: bool = False, **config: object) -> list[dict[str, str]]:
    """The rows of the only set, by heading."""
    comparison = compared(*runs, **config)
    headings, rows = table_of(comparison, comparison.sets[0], brief=brief)
    return [dict(zip(headings, row, strict=True)) for row in rows]


def test_every_figure_has_its_column_and_unit():
    first = a_run("a", 2.0)
    second = a_run(
        "b", 1.0, base_model="owner/base", data="/x/chats.jsonl", settings={"lora_alpha": 16}, minutes=3.14,
        trainable_parameters=1_234_567, hardware="1 x T4", tokens_per_second=99.6, figures={"size_bytes": 5_550_000},
    )  # fmt: skip
    assert cells(first, second)[1] == {
        "run": "b", "base": "base", "data": "chats.jsonl", "steps": "10", "learning rate": "0.001", "rank": "8",
        "alpha": "16", "trainable": "1.23 M", "hardware": "1 x T4", "loss": "1.0000", "vs first": "-50.0 %",
        "perplexity": "2.718", "minutes": "3.1", "tokens/s": "100", "size": "5.5 MB",
    }  # fmt: skip


def test_a_column_without_any_value_is_left_out():
    assert not {"size", "hardware", "alpha", "outcome", "vs first"} & cells(a_run("a", 1.0))[0].keys()


def test_a_failed_run_has_its_outcome_and_no_loss():
    rows = cells(a_run("a", 1.0), a_run("hot", 9.0, status="out_of_memory"), a_run("early", 1.1, stopped_early=True))
    assert [row["outcome"] for row in rows] == ["", "out of memory", "not continued"]
    assert [row["loss"] for row in rows] == ["1.0000", "", "1.1000"]


def test_training_losses_have_no_perplexity():
    assert "perplexity" not in cells(a_run("a", 1.0, loss_kind="training"))[0]


def test_at_given_minutes_the_loss_is_that_of_the_minutes():
    (row,) = cells(a_run("a", 1.0, 0.5), at_minutes=1.0)
    assert row["loss"] == "1.0000"


def test_the_brief_table_has_only_columns_in_which_runs_differ():
    runs = [a_run("a", 1.0, hardware="x"), a_run("b", 0.5, hardware="y", settings={"lora_rank": 16})]
    assert set(cells(*runs, brief=True)[0]) == {"run", "rank", "loss", "vs first"}
    assert {"run", "rank", "learning rate", "loss"} <= set(cells(runs[0], brief=True)[0])


@pytest.mark.parametrize(
    ("data", "short"),
    [
        ("/a/b.jsonl", "b.jsonl"),
        ("s3://bucket/b.jsonl, owner/set", "b.jsonl, owner/set"),
        ("owner/set", "owner/set"),
    ],
)
def test_addresses_of_data_lose_their_folders(data, short):
    assert short_data(data) == short
