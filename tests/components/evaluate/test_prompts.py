"""The prompts file."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import DataError
from components.evaluate.prompts import Prompt, read_prompts
from components.storage.digests import sha256_of
from pipelines.config.recipe import RECIPES

PROMPTS = """
- name: one turn
  turns: [Say hello.]
- name: follow-up
  system: Be brief.
  turns: [First?, And second?]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "prompts.yaml"
    path.write_text(text)
    return path


def test_prompts_are_read_in_their_order(tmp_path):
    assert read_prompts(write(tmp_path, PROMPTS)) == [
        Prompt(name="one turn", turns=["Say hello."]),
        Prompt(name="follow-up", system="Be brief.", turns=["First?", "And second?"]),
    ]


@pytest.mark.parametrize("path", sorted((RECIPES / "prompts").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_prompts_can_be_read(path):
    assert len(read_prompts(path)) >= 4


def test_the_chat_prompts_cover_what_was_promised():
    names = {prompt.name for prompt in read_prompts(RECIPES / "prompts" / "chat.yaml")}
    assert names == {
        "explain to a child", "short poem", "haiku", "two languages compared", "natural process", "sequence continued",
        "fact with a follow-up", "why question", "three tips", "arithmetic", "counting letters", "formal rewrite",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: x\n", r"0.turns: Field required; see pipelines/recipes/prompts for the form"),
        ("- name: x\n  turns: []\n", "0.turns: List should have at least 1 item"),
        ("- {name: x, turns: [a]}\n- {name: y, turns: [a], sytem: z}\n", "1.sytem: Extra inputs are not permitted"),
        ("- name: x\n  turns: [1]\n", "0.turns.0: Input should be a valid string"),
        ("name: [", "not YAML"),
        ("", "the file: Input should be a valid list"),
        ("[]", "holds no prompts; add one, or leave evaluate.prompts out"),
    ],
)
def test_a_prompts_file_of_another_form_is_an_error_with_its_key(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_prompts(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/prompts.yaml: ")
    assert len(str(caught.value).splitlines()) == 1


def test_prompts_that_changed_since_the_recipe_was_resolved_are_refused(tmp_path):
    path = write(tmp_path, PROMPTS)
    assert len(read_prompts(path, sha256_of(path))) == 2
    with pytest.raises(DataError, match="the file changed while the run was going on; run again"):
        read_prompts(path, "0" * 64)


def test_a_missing_prompts_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none.yaml: no such prompts file; correct evaluate.prompts"):
        read_prompts(tmp_path / "none.yaml")
