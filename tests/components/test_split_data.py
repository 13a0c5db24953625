"""Splitting: what is taken, what is dropped and why, and where each row goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from components.digest import sha256_of
from components.errors import DataError
from components.rows import read_rows
from components.split_data.config import SplitConfig
from components.split_data.sources import RawRecord, read_records
from components.split_data.split import Split, split, split_records
from tests.conftest import DEMO_DATA, chat, demo_rows, write_jsonl


def records(rows: list[Any]) -> list[RawRecord]:
    return [RawRecord(number, row) for number, row in enumerate(rows, start=1)]


def config(data: Path | str = "data.jsonl", **settings: Any) -> SplitConfig:
    return SplitConfig.model_validate({"data": str(data), "validation_rows": 2, "test_rows": 2, **settings})


def reasons(result: Split) -> dict[int, str]:
    return {account.line: account.reason for account in result.accounts if account.outcome == "dropped"}


def test_counts_add_up_and_every_record_has_one_account():
    rows = [chat(f"question {i}", f"answer {i}") for i in range(20)] + [chat("question 3", "answer 3"), {"no": 1}]
    result = split_records(records(rows), config(train_rows=10))
    counts = result.counts()
    assert counts == {"read": 22, "train": 10, "validation": 2, "test": 2, "unused": 6, "dropped": 2}
    assert [account.line for account in result.accounts] == list(range(1, 23))


def test_no_conversation_is_in_two_splits_even_when_only_white_space_differs():
    rows = [chat(f"q{i}", "a") for i in range(30)] + [chat(f" q{i} ", "a\n") for i in range(30)]
    result = split_records(records(rows), config(validation_rows=10, test_rows=10))
    ids = [row.id for rows in result.rows.values() for row in rows]
    assert len(ids) == len(set(ids)) == 30


def test_an_exact_duplicate_is_dropped_and_names_the_first_line():
    result = split_records(records([chat(f"q{i}", "a") for i in range(6)] + [chat("q2", "a")]), config())
    assert reasons(result) == {7: "the same conversation as line 3"}


def test_the_same_seed_gives_the_same_split_whatever_the_order_of_the_rows():
    rows = demo_rows(60)
    first, again = (split_records(records(part), config()) for part in (rows, rows[::-1]))
    other_seed = split_records(records(rows), config(seed=1))
    assert first.rows == again.rows
    assert first.rows["validation"] != other_seed.rows["validation"]


def test_appended_rows_leave_most_others_where_they_were():
    before = split_records(records(demo_rows(100)), config(validation_rows=10, test_rows=10)).rows
    after = split_records(records(demo_rows(110)), config(validation_rows=10, test_rows=10)).rows
    assert len({row.id for row in before["validation"]} & {row.id for row in after["validation"]}) >= 6


def test_sharegpt_conversations_become_messages():
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]
    result = split_records(records([{"conversations": turns}] + [chat(f"q{i}", "a") for i in range(5)]), config())
    messages = [[(m.role, m.content) for m in row.messages] for rows in result.rows.values() for row in rows]
    assert [("system", "s"), ("user", "h"), ("assistant", "g")] in messages


BAD_ROWS = {
    "an unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, "unknown role 'robot' (known: system, user"),
    "no messages": ({"text": "x"}, "has no 'messages' or 'conversations' key (its keys: text)"),
    "no assistant at the end": (chat("only a question"), "ends with a turn of the user, not the assistant"),
    "an empty answer": (chat("q", "  "), "the assistant turn has no text"),
    "an empty list": ({"messages": []}, "'messages' is not a list with at least one turn"),
    "a turn without content": ({"messages": [{"role": "user"}]}, "a turn without 'role' and 'content'"),
    "not an object": ([1, 2], "a JSON list, not an object"),
    "a role that is no word": ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown role ['user']"),
    "half of a character": (chat("cut \ud83d", "a"), "the user turn holds half of a character (at 4)"),
    "the assistant first": (
        {"messages": [{"role": "assistant", "content": "Hi!"}, *chat("q", "a")["messages"]]},
        "begins with a turn of the assistant, not the user",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_dropped_with_its_line_and_reason(name):
    bad, reason = BAD_ROWS[name]
    result = split_records(records([*(chat(f"q{i}", "a") for i in range(5)), bad]), config())
    assert list(reasons(result)) == [6]
    assert reason in reasons(result)[6]


def test_a_line_that_is_not_json_or_not_utf8_is_dropped_and_the_rest_is_used(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [*(chat(f"q{i}", "a") for i in range(5)), "{broken"])
    path.write_bytes(path.read_bytes() + b'{"messages": "\xff"}\n')
    with path.open("a") as file:
        file.write('{"n": ' + "9" * 5000 + "}\n" + "[" * 100_000 + "\n")
    result = split_records(list(read_records(config(path))), config())
    assert reasons(result)[6].startswith("not JSON (Expecting property name")
    assert reasons(result)[8].startswith("JSON that cannot be read (Exceeds the limit (4300 digits)")
    assert reasons(result)[9].startswith("JSON that cannot be read (")
    assert reasons(result)[7] == "not UTF-8 text (byte 15 of the line)"


def test_all_rows_bad_is_an_error_that_shows_the_first():
    with pytest.raises(DataError, match=r"none of its 2 rows can be used; the first, line 1: has no 'messages'"):
        split_records(records([{"a": 1}, {"a": 2}]), config())


def test_a_split_larger_than_the_data_says_both_numbers():
    with pytest.raises(DataError, match=r"asks for 15 rows \(train 10, validation 3, test 2\), but only 4 of 5 rows"):
        split_records(records([*(chat(f"q{i}", "a") for i in range(4)), {}]), config(train_rows=10, validation_rows=3))


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.jsonl: no such file; give the path of a .jsonl, .json, .parquet"):
        list(read_records(config(tmp_path / "nowhere.jsonl")))


def test_an_empty_file_is_an_error(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.touch()
    with pytest.raises(DataError, match="the file is empty; it must hold at least one conversation"):
        list(read_records(config(path)))


def test_a_file_of_blank_lines_holds_no_rows(tmp_path):
    path = tmp_path / "blank.jsonl"
    path.write_text("\n\n")
    with pytest.raises(DataError, match="holds no rows"):
        split_records(list(read_records(config(path))), config(path))


def test_a_file_that_changed_since_the_recipe_was_resolved_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", demo_rows(5))
    digest = sha256_of(path)
    write_jsonl(path, demo_rows(6))
    with pytest.raises(DataError, match="changed while the run was going on; run again"):
        list(read_records(config(path, data_revision=digest)))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_every_file_form_gives_the_same_rows(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    rows = demo_rows(8)
    if suffix == ".jsonl":
        write_jsonl(path, rows)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    assert (
        split_records(list(read_records(config(path))), config(path)).rows
        == split_records(records(rows), config()).rows
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.json", b'{"messages": []}', "holds a JSON dict, but must hold a list"),
        ("rows.json", b'[\n{"a" 1}]', "line 2 is not JSON .* name the file .jsonl if"),
        ("rows.parquet", b"PAR1 no", "not a Parquet file"),
    ],
)
def test_a_file_of_the_wrong_form_says_which(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_records(config(path)))


def test_a_hub_id_that_the_hub_does_not_give_is_named():
    with pytest.raises(DataError, match=r"nobody/nothing: neither a .jsonl.*nor a data set that the hub gives"):
        list(read_records(config("nobody/nothing")))


def test_limit_takes_the_first_rows(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", demo_rows(20))
    assert len(list(read_records(config(path, limit=7)))) == 7


def test_split_writes_rows_report_and_accounts(tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", [*demo_rows(10), {"x": "<script>"}])
    paths = [str(tmp_path / name) for name in ("train", "validation", "test", "report.html", "accounts.jsonl")]
    counts = split(config(data), *paths)
    assert [len(read_rows(path)) for path in paths[:3]] == [counts["train"], counts["validation"], counts["test"]]
    accounts = [json.loads(line) for line in Path(paths[4]).read_text().splitlines()]
    assert len(accounts) == counts["read"] == 11
    page = Path(paths[3]).read_text()
    assert "has no &#39;messages&#39;" in page
    assert "11 rows read" in page


def test_every_shipped_row_can_be_used():
    result = split_records(list(read_records(config(DEMO_DATA))), config(DEMO_DATA))
    counts = result.counts()
    assert counts["read"] >= 300
    assert counts["dropped"] == 0
    assert sum(len(row.messages) > 2 for row in result.rows["train"]) > 20
