"""Splitting: what is taken, what is dropped and why, and where each row goes."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from components.artifacts.contracts import BaseModelRef
from components.errors import DataError
from components.modeling.base_model import folder_revision, load_tokenizer
from components.split_data.config import SplitConfig
from components.split_data.sources import data_folder_revision
from components.storage.digests import sha256_of
from tests.conftest import CHATS, SplitResult, chat, chat_rows, split_data, split_rows, write_jsonl

SIZES = {"validation_rows": 2, "test_rows": 2}


def config(data: Path | str, **settings: Any) -> SplitConfig:
    return SplitConfig.model_validate({"data": str(data), **SIZES, **settings})


def few(n: int = 6) -> list[Any]:
    return [chat(f"question {i}", f"answer {i}") for i in range(n)]


def prose(n_words: int, seed: int) -> list[str]:
    """Words that no two seeds share in the same order."""
    chance = random.Random(seed)
    return [f"{chance.choice('abcdefghij')}{chance.randrange(10_000)}" for _ in range(n_words)]


def talk(seed: int, n_words: int = 60) -> Any:
    words = prose(n_words, seed)
    return chat(" ".join(words[:20]), " ".join(words[20:]))


def all_messages(result: SplitResult) -> list[list[tuple[str, str]]]:
    names = ("train", "validation", "test")
    return [[(m.role, m.content) for m in row.messages] for name in names for row in result.rows(name)]


def test_counts_add_up_and_every_record_has_one_outcome(tmp_path):
    rows = [*few(20), chat("question 3", "answer 3"), {"no": 1}]
    result = split_rows(tmp_path, rows, train_rows=10, **SIZES)
    assert result.counts == {"read": 22, "train": 10, "validation": 2, "test": 2, "unused": 6, "dropped": 2}
    assert [row["line"] for row in result.outcomes()] == list(range(1, 23))


def test_an_equal_row_is_dropped_whatever_its_case_and_white_space_and_names_the_first_line(tmp_path):
    same = [chat(" question  2 ", "ANSWER 2\n"), chat("Question 2", "answer 2"), chat("question 2", "answer \uff12")]
    result = split_rows(tmp_path, few() + same, **SIZES)
    assert result.reasons() == dict.fromkeys((7, 8, 9), "the same conversation as line 3")
    assert len(all_messages(result)) == 6


def test_the_same_words_of_another_role_are_another_conversation(tmp_path):
    rows = [
        chat("a b c", "d", "e", "f"),
        {"messages": [{"role": "system", "content": "a b c"}, *chat("d e", "f")["messages"]]},
    ]
    assert split_rows(tmp_path, [*few(), *rows], **SIZES).counts["dropped"] == 0


def test_the_same_seed_gives_the_same_split_whatever_the_order_of_the_rows(tmp_path):
    rows = chat_rows(60)
    first, again = (split_rows(tmp_path / str(i), part, **SIZES) for i, part in enumerate((rows, rows[::-1])))
    other_seed = split_rows(tmp_path / "seed", rows, seed=1, **SIZES)
    assert all(first.ids(name) == again.ids(name) for name in ("train", "validation", "test"))
    assert first.ids("validation") != other_seed.ids("validation")


def test_appended_rows_leave_most_others_where_they_were(tmp_path):
    before, after = (
        split_rows(tmp_path / str(n), chat_rows(n), validation_rows=10, test_rows=10).ids("validation")
        for n in (100, 110)
    )
    assert len(before & after) >= 6


# Sources and formats


SPEAKERS = (("system", "s"), ("human", "h"), ("gpt", "g"))
FORMATS = {
    "sharegpt": {"conversations": [{"from": who, "value": said} for who, said in SPEAKERS]},
    "alpaca": {"instruction": "h", "input": "", "output": "g", "system": "s"},
    "prompt_completion": {"prompt": "h", "completion": "g", "system": "s"},
}


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_becomes_messages(tmp_path, format):
    other = json.loads(json.dumps(FORMATS[format]).replace('"g"', '"other"'))
    result = split_rows(tmp_path, [FORMATS[format], other], validation_rows=1)
    assert [("system", "s"), ("user", "h"), ("assistant", "g")] in all_messages(result)


def test_an_alpaca_input_follows_its_instruction(tmp_path):
    rows = [{"instruction": f"Add {i}.", "input": "1 2", "output": "3"} for i in range(2)]
    assert [("user", "Add 1.\n\n1 2"), ("assistant", "3")] in all_messages(
        split_rows(tmp_path, rows, validation_rows=1)
    )


def test_a_prompt_and_a_completion_may_be_lists_of_messages(tmp_path):
    rows = [
        {"prompt": chat(f"q{i}")["messages"], "completion": [{"role": "assistant", "content": "a"}]} for i in range(2)
    ]
    assert [("user", "q1"), ("assistant", "a")] in all_messages(split_rows(tmp_path, rows, validation_rows=1))


def test_a_row_of_another_format_than_its_neighbours_is_dropped_with_the_reason(tmp_path):
    result = split_rows(tmp_path, [*few(), {"instruction": "i", "output": "o"}], **SIZES)
    assert (
        result.reasons()[7]
        == "is in the format alpaca, unlike its neighbours in the format messages; give it a source of its own"
    )


def test_the_format_of_the_recipe_takes_precedence_over_the_detected_one(tmp_path):
    rows = [{**row, "instruction": f"i{i}", "output": "o"} for i, row in enumerate(few())]
    taken = all_messages(split_rows(tmp_path, rows, format="alpaca", **SIZES))
    assert [("user", "i0"), ("assistant", "o")] in taken


def test_an_empty_system_message_is_left_out(tmp_path):
    rows = [{"messages": [{"role": "system", "content": ""}, *row["messages"]]} for row in few()]
    assert all(turns[0][0] == "user" for turns in all_messages(split_rows(tmp_path, rows, **SIZES)))


BAD_ROWS = {
    "an unknown role": (
        {"messages": [{"role": "robot", "content": "x"}]},
        "unknown role 'robot' (known: system, developer, user",
    ),
    "no messages": ({"text": "x"}, "has no 'messages' key (its keys: text)"),
    "no assistant at the end": (chat("only a question"), "ends with a turn of the user, not the assistant"),
    "an empty answer": (chat("q", "  "), "the assistant turn has no text"),
    "an empty list": ({"messages": []}, "'messages' is not a list with at least one turn"),
    "a turn without content": ({"messages": [{"role": "user"}]}, "a turn without 'role' and 'content'"),
    "not an object": ([1, 2], "is a list, not an object"),
    "a role that is no word": ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown role ['user']"),
    "a lone surrogate": (chat("cut \ud83d", "a"), "the user turn holds a lone surrogate (at 4)"),
    "only a system message": ({"messages": [{"role": "system", "content": "x"}]}, "has no turn of the user"),
    "a megabyte and more": (
        chat("q", "word " * 300_000),
        "1.5 MB long; a row may have 1 MB: cut it into conversations",
    ),
    "a number for words": ({"messages": [{"role": "user", "content": 5}]}, "the user turn is a number, not text"),
    "a lone surrogate in a key": ({"\ud800": 1}, "has no 'messages' key (its keys: ?)"),
    "a list in a list in a list": (
        {"messages": "[" * 100_000},
        "'messages' is text that is not JSON (maximum",
    ),
    "the assistant first": (
        {"messages": [{"role": "assistant", "content": "Hi!"}, *chat("q", "a")["messages"]]},
        "begins with a turn of the assistant, not the user",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_dropped_with_its_line_and_reason(tmp_path, name):
    bad, reason = BAD_ROWS[name]
    reasons = split_rows(tmp_path, [*few(), bad], **SIZES).reasons()
    assert list(reasons) == [7]
    assert reason in reasons[7]


def test_a_line_that_is_not_json_or_not_utf8_or_without_end_is_dropped_and_the_rest_is_used(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [*few(5), "{broken"])
    path.write_bytes(path.read_bytes() + b'{"messages": "\xff"}\n')
    with path.open("a") as file:
        file.write('{"n": ' + "9" * 5000 + "}\n" + "[" * 100_000 + "\n" + "x" * 10_000_000 + "\n")
        file.write(json.dumps(chat("after", "all")) + "\n")
    result = split_data(tmp_path / "out", config(path))
    reasons = result.reasons()
    assert reasons[6].startswith("not JSON (Expecting property name")
    assert reasons[7] == "not UTF-8 text (byte 15 of the line)"
    assert reasons[8].startswith("JSON that cannot be read (Exceeds the limit (4300 digits)")
    assert reasons[9].startswith("JSON that cannot be read (")
    assert reasons[10].startswith("10.0 MB long; a row may have 1 MB")
    assert result.counts["read"] == 11
    assert [("user", "after"), ("assistant", "all")] in all_messages(result)


def test_all_rows_bad_is_an_error_that_shows_the_first(tmp_path):
    with pytest.raises(DataError, match=r"none of its 2 rows can be used; the first, line 1: has no 'messages'"):
        split_rows(tmp_path, [{"a": 1}, {"a": 2}], **SIZES)


def test_a_split_larger_than_the_data_says_both_numbers(tmp_path):
    with pytest.raises(DataError, match=r"asks for 15 rows \(train 10, validation 3, test 2\), but only 4 of 5 rows"):
        split_rows(tmp_path, [*few(4), {}], train_rows=10, validation_rows=3, test_rows=2)


def write_as(path: Path, rows: list[Any]) -> None:
    """``rows`` in the format that the file's name says."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if ".jsonl" in path.suffixes:
        with pa.output_stream(str(path), compression="detect") as file:
            file.write(lines)
    elif path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["messages"])
            writer.writerows([json.dumps(row["messages"])] for row in rows)
    else:
        path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "r.jsonl.gz", "r.jsonl.bz2", "r.jsonl.zst"]
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    write_as(tmp_path / name, chat_rows(8))
    taken = all_messages(split_data(tmp_path / "out", config(tmp_path / name)))
    assert taken == all_messages(split_rows(tmp_path / "plain", chat_rows(8), **SIZES))


def test_a_folder_is_read_file_by_file_and_the_outcomes_name_the_file(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_as(folder / "b.jsonl", chat_rows(8)[4:])
    write_as(folder / "a.parquet", chat_rows(4))
    (folder / "README.txt").write_text("no data")
    write_jsonl(folder / "c.jsonl", [chat_rows(1)[0]])
    result = split_data(tmp_path / "out", config(folder, data_revision=data_folder_revision(folder)))
    assert [(row["file"], row["line"]) for row in result.outcomes()] == [
        *(("a.parquet", line) for line in range(1, 5)),
        *(("b.jsonl", line) for line in range(1, 5)),
        ("c.jsonl", 1),
    ]
    assert result.outcomes()[-1]["reason"] == "the same conversation as a.parquet line 1"


def test_a_folder_without_data_and_a_changed_folder_are_errors(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(DataError, match=r"the folder holds no \.jsonl, \.ndjson, \.json, \.csv, \.tsv, \.parquet file"):
        split_data(tmp_path / "out", config(folder))
    revision = data_folder_revision(folder)
    write_jsonl(folder / "a.jsonl", few())
    with pytest.raises(DataError, match=r"its files have the digest .*, not "):
        split_data(tmp_path / "out", config(folder, data_revision=revision))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.json", b'{"messages": []}', "holds a JSON dict, but must hold a list"),
        ("rows.json", b'[\n{"a" 1}]', "line 2 is not JSON .* name the file .jsonl if"),
        ("rows.json", b"[\xff]", r"not UTF-8 text \(byte 2\)"),
        ("rows.csv", b"prompt,completion\n\xff,x\n", r"not UTF-8 text \(after line .*save the file as UTF-8"),
        ("rows.parquet", b"PAR1 no", "not a Parquet file"),
        ("rows.jsonl.gz", b"no gzip", r"cannot be read or unpacked \(.*\); copy or pack the file again"),
        ("rows.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999, mtime=0)[:30], "cannot be read or unpacked .*Truncated"),
        ("rows.jsonl", b"", "the file is empty; it must hold at least one conversation"),
        ("rows.jsonl", b"\n\n", "holds no rows"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        split_data(tmp_path / "out", config(tmp_path / name))


def test_csv_rows_with_too_few_or_too_large_cells_are_dropped(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "prompt,completion\n"
        + "".join(f"q{i},a\n" for i in range(5))
        + 'q6\nq7,a,b\n"q8","'
        + "x" * 1_100_000
        + '"\nq9,a\n'
    )
    result = split_data(tmp_path / "out", config(path))
    reasons = result.reasons()
    assert (reasons[7], reasons[8]) == ("not as many cells as the header's 2",) * 2
    assert "field larger than field limit" in reasons[9]
    assert result.counts["read"] == 9


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere.jsonl: no such file; give the path of a .jsonl, .ndjson, .json, .csv"
    ):
        split_data(tmp_path, config(tmp_path / "nowhere.jsonl"))


def test_a_file_that_changed_since_the_recipe_was_resolved_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", chat_rows(5))
    digest = sha256_of(path)
    write_jsonl(path, chat_rows(6))
    with pytest.raises(DataError, match="changed while the run was going on; run again"):
        split_data(tmp_path / "out", config(path, data_revision=digest))


def test_a_hub_id_that_the_hub_does_not_give_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nobody/nothing: neither a .jsonl.*nor a data set of the hub"):
        split_data(tmp_path, config("nobody/nothing"))


def test_limit_takes_the_first_rows(tmp_path):
    assert split_rows(tmp_path, chat_rows(20), limit=7, **SIZES).counts["read"] == 7


def test_sources_are_mixed_by_their_weights_and_none_is_repeated(tmp_path):
    paths = [
        write_jsonl(tmp_path / f"{i}.jsonl", [chat(f"{i} {j}", "a") for j in range(n)]) for i, n in enumerate((30, 90))
    ]
    sources = [{"data": str(path), "weight": weight} for path, weight in zip(paths, (3, 1), strict=True)]
    settings = SplitConfig.model_validate({"sources": sources, "validation_rows": 4})
    result = split_data(tmp_path / "out", settings)
    assert [source.in_splits for source in result.summary().sources] == [30, 10]
    left_out = [row for row in result.outcomes() if row["outcome"] == "unused"]
    assert len(left_out) == 80
    assert {(row["file"], row["reason"]) for row in left_out} == {("1.jsonl", "the source's weight leaves it out")}


def test_a_weighted_source_without_a_row_is_named(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", few(10))
    second = write_jsonl(tmp_path / "b.jsonl", few(3))
    sources = [{"data": str(first), "weight": 1}, {"data": str(second), "weight": 1}]
    with pytest.raises(
        DataError, match=r"b.jsonl: none of its rows can be used .*; take the source out, or correct it"
    ):
        split_data(tmp_path / "out", SplitConfig.model_validate({"sources": sources, "validation_rows": 2}))


def test_sources_may_each_have_a_format_and_a_limit_of_their_own(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", few(10))
    second = write_jsonl(tmp_path / "b.jsonl", [{"instruction": f"i{i}", "output": "o"} for i in range(10)])
    sources = [{"data": str(first)}, {"data": str(second), "limit": 3}]
    result = split_data(tmp_path / "out", SplitConfig.model_validate({"sources": sources, "validation_rows": 4}))
    assert result.counts == {"read": 13, "train": 9, "validation": 4, "test": 0, "unused": 0, "dropped": 0}


def test_splits_may_be_fractions(tmp_path):
    result = split_rows(tmp_path, chat_rows(100), validation_fraction=0.1, test_fraction=0.2, train_fraction=0.5)
    assert [result.counts[name] for name in ("train", "validation", "test", "unused")] == [50, 10, 20, 20]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "data is missing: a path, an address or a hub id"),
        ({"data": "a.jsonl", "sources": [{"data": "b.jsonl"}]}, "data and sources are both given; give one"),
        ({"data": "a.jsonl", "validation_fraction": 0.1}, "validation_rows and validation_fraction are both given"),
        ({"data": "a.jsonl", "test_rows": 1, "test_fraction": 0.1}, "give either test_rows or test_fraction"),
        ({"data": "a.jsonl", "train_rows": 1, "train_fraction": 0.1}, "give either train_rows or train_fraction"),
        ({"sources": [{"data": "a", "weight": 1}, {"data": "b"}]}, "give every source a weight, or none"),
        ({"data": "a.jsonl", "quality": {"min_turns": 3, "max_turns": 2}}, "min_turns 3 is above max_turns 2: no row"),
        ({"data": "a.jsonl", "train_fraction": 0.9, "test_fraction": 0.2}, "add up to 1.1, which is more than 1"),
        ({"sources": [{"data": "a"}], "limit": 3}, "limit beside sources does nothing: give it in each of the sources"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        SplitConfig.model_validate({"validation_rows": 2, **settings})


# Near-duplicates, decontamination, quality


def with_changes(row: Any, n_words: int) -> Any:
    """The row with its last words replaced."""
    question, answer = (turn["content"] for turn in row["messages"])
    words = answer.split()
    return chat(question, " ".join([*words[:-n_words], *(f"new{i}" for i in range(n_words))]))


def test_near_duplicates_go_into_one_split_together(tmp_path):
    rows = [talk(i) for i in range(40)]
    rows += [with_changes(row, 1 + i % 3) for i, row in enumerate(rows)]
    result = split_rows(tmp_path, rows, validation_rows=20, test_rows=20)
    outcome = {row["line"]: row["outcome"] for row in result.outcomes()}
    assert all(outcome[line] == outcome[line + 40] for line in range(1, 41))
    assert {row["group"] for row in result.outcomes() if row["line"] in (3, 43)} == {"line 3"}
    near = result.summary().near_duplicates
    assert (near.groups, near.rows) == (40, 80)
    assert [result.counts[name] for name in ("train", "validation", "test")] == [40, 20, 20]


def test_near_duplicates_are_dropped_but_for_the_first_where_the_recipe_says(tmp_path):
    rows = [talk(i) for i in range(10)]
    result = split_rows(tmp_path, [*rows, with_changes(rows[4], 3)], duplicates={"near": "drop"}, **SIZES)
    assert result.reasons() == {11: "90 % the same as line 5"}


def test_a_chain_keeps_the_row_that_is_like_a_dropped_one_alone(tmp_path):
    """The third row is like the second, which is dropped, and not like the first."""
    first = talk(1)
    second, third = with_changes(first, 6), with_changes(first, 12)
    result = split_rows(tmp_path, [first, second, third, *few()], duplicates={"near": "drop"}, **SIZES)
    assert list(result.reasons()) == [2]


def test_near_duplicates_below_the_threshold_or_not_looked_for_are_rows_of_their_own(tmp_path):
    rows = [talk(1), with_changes(talk(1), 6), *few()]
    for number, settings in enumerate(({"jaccard_threshold": 0.9}, {"near": "keep"})):
        assert not any(
            row.get("group")
            for row in split_rows(tmp_path / str(number), rows, duplicates=settings, **SIZES).outcomes()
        )


def test_a_system_prompt_that_all_rows_share_makes_no_near_duplicates(tmp_path):
    system = {"role": "system", "content": " ".join(prose(400, 0))}
    rows = [{"messages": [system, *talk(i)["messages"]]} for i in range(1, 9)]
    assert split_rows(tmp_path, rows, **SIZES).summary().near_duplicates.groups == 0


def test_a_group_larger_than_every_split_is_an_error_that_says_what_to_set(tmp_path):
    rows = [with_changes(talk(1), 1)] + [chat(*(turn["content"] for turn in talk(1)["messages"])) for _ in range(1)]
    with pytest.raises(DataError, match=r"no group of near-duplicates is small enough for the validation rows"):
        split_rows(tmp_path, rows, validation_rows=1)


def test_near_duplicates_are_found_in_a_large_family_that_shares_a_template(tmp_path):
    """300 rows with 88 shingles in common and 12 of their own; 20 of them have a twin that shares more."""
    template = prose(90, 0)
    rows = [[*template, *prose(12, seed)] for seed in range(1, 301)]
    rows += [[*row[:-3], *prose(3, 1000 + i)] for i, row in enumerate(rows[:20])]
    result = split_rows(
        tmp_path,
        [chat("q", " ".join(row)) for row in rows],
        duplicates={"jaccard_threshold": 0.9},
        validation_rows=10,
    )
    near = result.summary().near_duplicates
    assert (near.groups, near.rows) == (20, 40)


def test_a_benchmark_text_that_is_wrapped_or_written_in_another_way_is_found(tmp_path):
    passage = prose(30, 7)
    wrapped = "\n".join(" ".join(passage[i : i + 8]) for i in range(0, 30, 8))
    (tmp_path / "benchmark.txt").write_text(wrapped.replace("a", "\uff41"))
    rows = [*few(), chat("so", " ".join(passage))]
    result = split_rows(tmp_path, rows, decontamination={"files": [str(tmp_path / "benchmark.txt")]}, **SIZES)
    assert result.reasons() == {7: "shares 13 words in a row with benchmark.txt, line 1"}


def test_a_contaminated_row_is_dropped_and_the_reason_names_the_file(tmp_path):
    passage = " ".join(prose(30, 99))
    benchmark = tmp_path / "benchmark.jsonl"
    write_jsonl(
        benchmark, [{"question": "Another one?"}, {"question": {"text": passage}, "choices": ["All of the above."]}]
    )
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("- {name: a, turns: [What is a lorry good for?]}\n")
    rows = [
        *[talk(i) for i in range(6)],
        chat("so", f"It says: {passage.upper()}, and more"),
        chat("What is a LORRY good for?", "Cargo."),
        chat("Which?", "All of the above."),
        chat(" ".join(passage.split()[:12]), "Twelve words are too few."),
    ]
    result = split_rows(tmp_path, rows, decontamination={"files": [str(benchmark), str(prompts)]}, **SIZES)
    assert result.summary().decontamination_texts_too_short == [
        "benchmark.jsonl, line 1: Another one?",
        "prompts.yaml, text 1: a",
    ]
    assert result.reasons() == {
        7: "shares 13 words in a row with benchmark.jsonl, line 2",
        8: "is the same text as prompts.yaml, text 2",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "no such file; correct split.decontamination.files"),
        ("empty.txt", "", "holds no text; correct split.decontamination.files"),
        ("bad.yaml", "a: [", "not YAML"),
        ("bad.jsonl", "{\n", "line 1: not JSON .*; correct it, or remove the file from split.decontamination.files"),
    ],
)
def test_a_decontamination_file_that_cannot_be_read_says_why(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        split_rows(tmp_path, few(), decontamination={"files": [str(tmp_path / name)]}, **SIZES)


def test_a_text_that_repeats_itself_is_dropped(tmp_path):
    result = split_rows(
        tmp_path, [*few(), chat("q", "and so on " * 40), chat("again " * 90, "A question may.")], **SIZES
    )
    assert result.reasons() == {7: "97 % of an answer repeats itself, more than max_repetition 0.9"}


def test_rows_out_of_the_bounds_of_turns_and_tokens_are_dropped(tmp_path, tiny_base):
    base = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    rows = [*few(), chat("a", "b", "c", "d"), chat("long", " ".join(prose(50, 0)))]
    quality = {"max_turns": 1, "max_tokens": 60}
    result = split_rows(tmp_path, rows, quality=quality, base_model=base.model_dump(), **SIZES)
    tokenizer = load_tokenizer(base)
    n_tokens = sum(
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("long", " ".join(prose(50, 0)))
    )
    assert result.reasons() == {
        7: "2 answers, more than max_turns 1",
        8: f"{n_tokens} tokens, more than max_tokens 60",
    }
    assert result.summary().lengths.unit == "tokens"


def test_rows_out_of_the_perplexity_band_are_dropped_by_what_the_base_model_says(tmp_path, tiny_base):
    base = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    settings = {"base_model": base.model_dump(), **SIZES}
    everything = split_rows(tmp_path / "all", few(), quality={"min_perplexity": 1.001}, **settings)
    assert everything.counts["dropped"] == 0
    with pytest.raises(DataError, match="but only 0 of 6 rows can be used"):
        split_rows(tmp_path / "none", few(), quality={"max_perplexity": 2}, **settings)


def test_every_split_has_the_same_lengths(tmp_path):
    rows = [talk(i, 25 if i % 2 else 250) for i in range(200)]
    result = split_rows(tmp_path, rows, validation_rows=20, test_rows=20)
    for name in ("train", "validation", "test"):
        lengths = [sum(len(message.content.split()) for message in row.messages) for row in result.rows(name)]
        assert sum(length < 100 for length in lengths) == len(lengths) / 2


# What is written


def test_the_report_shows_what_was_dropped_and_the_summary_says_the_same(tmp_path):
    rows = [
        *chat_rows(10),
        {"x": "<script>alert(1)</script>"},
        chat(*(turn["content"] for turn in chat_rows(1)[0]["messages"])),
    ]
    result = split_rows(tmp_path, rows, **SIZES)
    page = Path(result.outputs.report).read_text()
    assert "has no &#39;messages&#39;" in page
    assert "<script>" not in page
    assert "12 rows read" in page
    assert "the same conversation as line 1" in page
    summary = result.summary()
    assert summary.counts == result.counts
    assert {kind.kind: kind.rows for kind in summary.dropped} == {"cannot be used": 1, "exact duplicate": 1}
    assert all(sum(summary.lengths.counts[name]) == result.counts[name] for name in ("train", "validation", "test"))


def test_many_rows_are_processed_in_several_processes_with_the_same_result(tmp_path, monkeypatch):
    rows = [talk(i, 30) for i in range(4100)]
    together = split_rows(tmp_path / "several", rows, validation_rows=40, test_rows=40)
    monkeypatch.setattr("components.split_data.process_pool.n_usable_processes", lambda: 1)
    alone = split_rows(tmp_path / "alone", rows, validation_rows=40, test_rows=40)
    assert together.outcomes() == alone.outcomes()
    assert together.rows("train") == alone.rows("train")


def test_every_shipped_row_can_be_used(tmp_path):
    result = split_data(tmp_path, config(CHATS))
    assert result.counts["read"] >= 300
    assert result.counts["dropped"] == 0
    assert sum(len(row.messages) > 2 for row in result.rows("train")) > 20
