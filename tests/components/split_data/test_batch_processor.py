"""One batch: which rows can be used, why others cannot, and the files that are written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from components.artifacts.contracts import BaseModelRef
from components.artifacts.rows import read_rows
from components.modeling.base_model import folder_revision, load_tokenizer
from components.split_data.raw import RawRecord
from components.split_data.sources import Batch
from tests.components.split_data.corpora import config_of, processed, processor_of, prose, talk
from tests.conftest import chat

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)


def reasons(batch: Any) -> dict[int, tuple[str, str]]:
    return {row.line: (row.kind, row.reason) for row in batch.dropped}


def test_usable_rows_and_dropped_records_are_all_records(tmp_path):
    batch = processed(tmp_path, [talk(1), {"a": 1}, talk(2), b"{broken"])
    assert batch.lines.tolist() == [1, 3]
    assert reasons(batch) == {
        2: ("cannot be used", "has no 'messages' key (its keys: a)"),
        4: ("cannot be used", "not JSON (Expecting property name enclosed in double quotes at column 2)"),
    }
    assert [row.excerpt for row in batch.dropped] == ["{'a': 1}", "{broken"]


def test_the_rows_that_are_written_have_the_ids_that_are_returned(tmp_path):
    batch = processed(tmp_path, [talk(1), talk(2)])
    rows = read_rows(str(batch.rows_path))
    assert [row.id for row in rows] == batch.ids
    assert rows[0].messages[0].content == talk(1)["messages"][0]["content"]


def test_every_row_has_its_distinct_shingles_in_the_file(tmp_path):
    batch = processed(tmp_path, [chat("a b c", "a b c"), {"no": 1}, chat("d e", "f")])
    shingles = np.fromfile(batch.shingles_path, dtype=np.uint32)
    # "a b c a b c" has the shingles abc, bca, cab; "d e f" has one.
    assert batch.shingle_starts.tolist() == [0, 3, 4]
    assert len(set(shingles.tolist())) == 4
    assert batch.n_words.tolist() == [6, 3]


def test_the_system_prompt_counts_neither_as_words_nor_as_shingles(tmp_path):
    row = chat("a b", "c")
    with_system = {"messages": [{"role": "system", "content": "x y z " * 9}, *row["messages"]]}
    batch = processed(tmp_path, [row, with_system])
    assert batch.n_words.tolist() == [3, 3]
    assert batch.band_hashes[0].tolist() == batch.band_hashes[1].tolist()


@pytest.mark.parametrize(
    ("row", "is_same"),
    [
        (chat(" Ask  THIS", "that\n"), True),
        (chat("ask \uff54his", "that"), True),
        (chat("ask this!", "that"), False),
        (chat("ask", "this that"), False),
        ({**chat("ask this", "that"), "tools": [TOOL]}, False),
        ({"messages": [chat("ask this")["messages"][0], {"role": "assistant", "content": "that", "weight": 1}]}, False),
        ({"messages": [{"role": "system", "content": "s"}, *chat("ask this", "that")["messages"]]}, False),
    ],
)
def test_keys_are_the_same_where_only_case_and_white_space_differ(tmp_path, row, is_same):
    first, second = processed(tmp_path, [chat("ask this", "that"), row]).keys
    assert (first == second) == is_same


def test_of_several_reasons_the_first_is_given(tmp_path):
    row = chat("a", "b", "c", "again " * 60)
    batch = processed(tmp_path, [talk(1), row], quality={"max_turns": 1})
    assert reasons(batch) == {2: ("too many turns", "2 answers, more than max_turns 1")}
    batch = processed(tmp_path, [talk(1), row])
    assert reasons(batch)[2][0] == "repeated text"


def test_a_question_may_repeat_itself(tmp_path):
    assert processed(tmp_path, [chat("again " * 60, "Once.")]).dropped == []


def test_contaminated_rows_are_dropped_by_row_whichever_message_it_is(tmp_path):
    passage = " ".join(prose(20, 9))
    (tmp_path / "benchmark.txt").write_text(passage)
    rows = [talk(1), chat("q", "a", "so", f"It says {passage}"), talk(2), chat(passage, "yes")]
    batch = processed(tmp_path, rows, decontamination={"files": [str(tmp_path / "benchmark.txt")]})
    expected = ("contaminated", "shares 13 words in a row with benchmark.txt, line 1")
    assert reasons(batch) == {2: expected, 4: expected}
    assert batch.dropped[0].excerpt.startswith("so → It says")


def test_tokens_of_all_messages_are_counted_by_the_base_models_tokenizer(tmp_path, base):
    rows = [chat("a", "b"), chat("long", " ".join(prose(50, 0)))]
    tokenizer = load_tokenizer(base)
    counts = [
        sum(len(tokenizer(turn["content"], add_special_tokens=False)["input_ids"]) for turn in row["messages"])
        for row in rows
    ]
    settings = {"base_model": base.model_dump()}
    batch = processed(tmp_path, rows, quality={"max_tokens": 1_000}, **settings)
    assert batch.n_tokens.tolist() == counts
    batch = processed(tmp_path, rows, quality={"max_tokens": counts[1] - 1}, **settings)
    assert reasons(batch) == {2: ("too long", f"{counts[1]} tokens, more than max_tokens {counts[1] - 1}")}
    assert batch.n_tokens.tolist() == counts[:1]
    assert processed(tmp_path, rows, **settings).n_tokens is None


def test_a_row_that_is_too_long_once_it_is_converted_is_dropped(tmp_path):
    text = "word " * 150_000
    record = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}
    batch = processed(tmp_path, [record])
    assert reasons(batch)[1][1].startswith("1.5 MB long; a row may have 1 MB")
    assert len(batch.dropped[0].excerpt) <= 160


def test_a_batch_without_a_usable_row_has_empty_arrays_and_files(tmp_path):
    batch = processed(tmp_path, [{"a": 1}])
    assert (batch.ids, batch.lines.tolist(), batch.shingle_starts.tolist()) == ([], [], [0])
    assert batch.band_hashes.shape[0] == 0
    assert read_rows(str(batch.rows_path)) == []


@pytest.mark.parametrize("shingle_words", [1, 3, 20])
def test_a_batch_of_fewer_words_than_a_shingle_is_processed(tmp_path, shingle_words):
    batch = processed(tmp_path, [chat("a", "b")], duplicates={"shingle_words": shingle_words})
    assert batch.n_words.tolist() == [2]
    assert batch.shingle_starts.tolist() == [0, 2 if shingle_words == 1 else 1]


def test_a_batch_has_its_source_file_and_format(tmp_path):
    processor = processor_of(tmp_path, config_of())
    records = [RawRecord(7, json.dumps({"instruction": "i", "output": "o"}).encode())]
    batch = processor.process(3, Batch(1, "b.jsonl", "alpaca", records))
    assert (batch.source, batch.file, batch.lines.tolist()) == (1, "b.jsonl", [7])
    assert batch.rows_path.name == "part-000003.parquet"
