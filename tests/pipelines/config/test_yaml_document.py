"""Problems of a YAML document, each with its line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.errors import RecipeError
from pipelines.config.yaml_document import line_of, location, nearest, plain, read_yaml, validated


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rank: Annotated[int, Field(gt=0, description="LoRA r")] = 16
    names: list[str] | str = ""

    @model_validator(mode="after")
    def _not_13(self) -> Section:
        if self.rank == 13:
            raise ValueError("13 is not taken")
        return self


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    train: Section = Section()
    items: list[Section] = []


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "d.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        validated(path, read_yaml(path, "document", Document), Document)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_a_good_document_is_read(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("name: a\nitems:\n- rank: 3\n")
    assert validated(path, read_yaml(path, "document", Document), Document).items[0].rank == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\ntrain:\n  rnk: 3\n", "line 3: train.rnk: unknown key; did you mean rank?"),
        ("name: a\ntrain:\n  zzz: 3\n", "line 3: train.zzz: unknown key; known keys: rank, names"),
        ("train: {}\n", "line 1: name: missing; add it"),
        ("name: a\ntrain:\n  rank: 13\n", "line 2: train: 13 is not taken"),
        (
            "name: a\nitems:\n- rank: 1\n- rank: 0\n",
            "line 4: items.1.rank = 0: input should be greater than 0 (LoRA r)",
        ),
    ],
)
def test_a_problem_has_its_line_its_key_and_the_next_move(tmp_path, text, line):
    assert problems(tmp_path, text) == [line]


def test_every_problem_is_a_line_and_a_union_only_one(tmp_path):
    found = problems(tmp_path, "name: a\ntrain:\n  rank: x\n  names: 4\n")
    assert [line.split(" = ")[0] for line in found] == ["line 3: train.rank", "line 4: train.names"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "holds no document; it must have the keys name"),
        ("name: [a\n", "line 2: not valid YAML"),
        ("", "holds no document"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path, text, said):
    path = tmp_path / "d.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_yaml(path, "document", Document)
    assert said in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(RecipeError, match="not valid YAML"):
        read_yaml(path, "document", Document)


def test_lines_are_those_of_the_deepest_part_that_is_there(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("# a comment\nname: a\ntrain:\n  rank: 3\n")
    document = read_yaml(path, "document", Document)
    assert [line_of(document, location(key)) for key in ("name", "train.rank", "train.missing", "nowhere")] == [
        2,
        4,
        3,
        1,
    ]
    assert plain(document) == {"name": "a", "train": {"rank": 3}}
    assert type(plain(document)["train"]["rank"]) is int


def test_the_parts_of_a_dotted_key():
    assert location("split.sources.0.data") == ["split", "sources", 0, "data"]
    assert nearest(["train", "rang"], Document) == "; did you mean rank?"
