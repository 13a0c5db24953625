"""Rows that the base model's chat template cannot write are found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.errors import ModelError
from components.modeling.base_model import folder_revision
from components.split_data.template_check import TemplateCheck
from tests.conftest import split_rows

# Gemma's: no system role, and user and assistant in turn.
ALTERNATING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def base(tiny_base, tmp_path_factory) -> BaseModelRef:
    folder = Path(shutil.copytree(tiny_base, tmp_path_factory.mktemp("alternating") / "base"))
    (folder / "chat_template.jinja").write_text(ALTERNATING)
    return BaseModelRef(address=str(folder), revision=folder_revision(folder), weight_bytes=0)


def row(*messages: tuple[str, str]) -> Row:
    return Row(id="0" * 32, messages=[Message(role=role, content=content) for role, content in messages])


QUESTION, ANSWER, SYSTEM = ("user", "One?"), ("assistant", "Two."), ("system", "Be brief.")


def test_a_row_that_can_be_written_has_no_problem(base):
    check = TemplateCheck(base)
    assert check.problem(row(QUESTION, ANSWER)) is None
    assert not check.moves_system(row(QUESTION, ANSWER))


def test_the_templates_own_refusal_is_the_problem(base):
    assert "Conversation roles must alternate" in TemplateCheck(base).problem(row(QUESTION, QUESTION, ANSWER))


def test_a_template_without_a_system_role_moves_the_system_text(base, tiny_base):
    check = TemplateCheck(base)
    assert check.problem(row(SYSTEM, QUESTION, ANSWER)) is None
    assert check.moves_system(row(SYSTEM, QUESTION, ANSWER))
    own = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    assert not TemplateCheck(own).moves_system(row(SYSTEM, QUESTION, ANSWER))


def test_a_token_without_an_embedding_row_is_a_problem(base, monkeypatch):
    monkeypatch.setattr("components.split_data.template_check.tokens_without_rows", lambda *_: ["<|new|>"])
    check = TemplateCheck(base)
    assert "'<|new|>'" in check.problem(row(QUESTION, ("assistant", "x <|new|>")))
    assert "'<|new|>'" in check.problem(row(("user", "<|new|>"), ANSWER))
    assert check.problem(row(QUESTION, ANSWER)) is None


def test_a_base_without_a_template_is_an_error(tiny_base, tmp_path):
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="chat template"):
        TemplateCheck(BaseModelRef(address=str(folder), revision=folder_revision(folder), weight_bytes=0))


def test_the_split_drops_what_the_template_refuses_and_reports_moved_system_texts(base, tmp_path):
    plain = [{"messages": [m.model_dump() for m in row(("user", f"{i}?"), ANSWER).messages]} for i in range(3)]
    refused = {"messages": [m.model_dump() for m in row(QUESTION, QUESTION, ANSWER).messages]}
    moved = {"messages": [m.model_dump() for m in row(SYSTEM, QUESTION, ANSWER).messages]}
    result = split_rows(tmp_path, [*plain, refused, moved], base_model=base.model_dump(), validation_rows=1)
    assert list(result.reasons()) == [4]
    assert result.outcomes()[3]["kind"] == "chat template"
    assert result.summary().moved_system == 1
