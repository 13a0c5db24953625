"""The texts of decontamination files, with their lines."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import DataError
from components.split_data.decontamination_files import texts_of
from components.storage.digests import sha256_of


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_a_text_file_gives_its_lines_and_its_paragraphs(tmp_path):
    address = write(tmp_path / "b.txt", "one\n\ntwo\nthree\n  \nfour")
    assert texts_of(address, None) == [
        ("b.txt, line 1", "one"),
        ("b.txt, line 3", "two"),
        ("b.txt, line 4", "three"),
        ("b.txt, line 3", "two\nthree"),
        ("b.txt, line 6", "four"),
    ]


def test_a_data_file_gives_every_text_at_any_depth(tmp_path):
    rows = [{"question": "a", "choices": ["b", {"text": "c"}], "label": 3}, ["d"], None]
    address = write(tmp_path / "b.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert texts_of(address, None) == [
        *(("b.jsonl, line 1", text) for text in "abc"),
        ("b.jsonl, line 2", "d"),
    ]


def test_a_table_gives_every_column(tmp_path):
    pq.write_table(pa.table({"question": ["a"], "other": ["b"]}), tmp_path / "b.parquet")
    assert [text for _, text in texts_of(str(tmp_path / "b.parquet"), None)] == ["a", "b"]
    assert [text for _, text in texts_of(write(tmp_path / "b.csv", "question,other\na,b\n"), None)] == ["a", "b"]


@pytest.mark.parametrize("name", ["p.yaml", "p.yml"])
def test_a_yaml_file_gives_its_values_by_number(tmp_path, name):
    address = write(tmp_path / name, "- {name: a, turns: [b, c]}\n- 5\n")
    assert texts_of(address, None) == [(f"{name}, text {i}", text) for i, text in enumerate("abc", start=1)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_files_are_read_in_the_encodings_of_windows(tmp_path, encoding):
    assert texts_of(write(tmp_path / "b.txt", "añb".encode(encoding)), None) == [("b.txt, line 1", "añb")]


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("none.txt", None, "no such file; correct split.decontamination.files"),
        ("empty.txt", "", "holds no text; correct split.decontamination.files"),
        ("numbers.yaml", "[1, 2]", "holds no text"),
        ("bad.yaml", "a: [", "not YAML (while parsing"),
        ("bad.txt", b"ok \xff", "not UTF-8 text (byte 4)"),
        ("bad.jsonl", '"a"\n{\n', "line 2: not JSON"),
        ("bad.csv", "a,b\nc\n", "line 2: not as many cells"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_with_its_path(tmp_path, name, content, fact):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(DataError) as caught:
        texts_of(str(path), None)
    assert str(caught.value).startswith(f"{path}: ")
    assert fact in str(caught.value)


def test_a_damaged_line_says_how_to_go_on(tmp_path):
    with pytest.raises(DataError, match=r"correct it, or remove the file from split\.decontamination\.files"):
        texts_of(write(tmp_path / "bad.jsonl", "{"), None)


def test_a_file_that_changed_since_the_recipe_was_resolved_is_an_error(tmp_path):
    address = write(tmp_path / "b.txt", "one")
    assert texts_of(address, sha256_of(Path(address))) == [("b.txt, line 1", "one")]
    with pytest.raises(DataError, match=r"b\.txt: the file changed while the run was going on"):
        texts_of(address, "0" * 64)
