"""Tools of a request, and its choice between them."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from components.model_server.http.protocol.tools import NamedToolChoice, Tool, ToolChoice

CHOICE: TypeAdapter[object] = TypeAdapter(ToolChoice)
NAMED = {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "none"}, "none"),
        ({"type": "auto"}, "auto"),
        ({"type": "required"}, "required"),
        ({"type": "any"}, "required"),
        (NAMED, NamedToolChoice.model_validate(NAMED)),
        ({"function": {"name": "add"}}, NamedToolChoice.model_validate(NAMED)),
    ],
    ids=str,
)
def test_a_choice_is_a_word_or_a_named_function(given, choice):
    assert CHOICE.validate_python(given) == choice


@pytest.mark.parametrize(
    "given",
    ["any", "", 5, [], {}, {"type": "function"}, {"type": "tool", "name": "add"}, {"type": "allowed_tools"}],
    ids=str,
)
def test_another_choice_is_refused_with_those_that_there_are(given):
    with pytest.raises(ValidationError) as refused:
        CHOICE.validate_python(given)
    for fact in ("'none'", "'auto'", "'required'", "'function'"):
        assert fact in str(refused.value)


def test_what_decorates_a_function_is_ignored_and_what_decorates_a_tool_is_not():
    tool = Tool.model_validate({"type": "function", "function": {"name": "f", "strict": True}})
    assert tool.model_dump(exclude_none=True) == {"type": "function", "function": {"name": "f"}}
    with pytest.raises(ValidationError, match="Extra inputs"):
        Tool.model_validate({"type": "function", "function": {"name": "f"}, "strict": True})


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "é", "f()"])
def test_a_name_is_of_letters_digits_and_few_signs(name):
    with pytest.raises(ValidationError):
        Tool.model_validate({"type": "function", "function": {"name": name}})
    assert Tool.model_validate({"type": "function", "function": {"name": "a-b_c.D1"}}).function.name == "a-b_c.D1"


def test_a_tool_of_another_type_is_refused_with_the_type():
    with pytest.raises(ValidationError, match="'web_search' cannot be used here; give tools of type 'function'"):
        Tool.model_validate({"type": "web_search"})
