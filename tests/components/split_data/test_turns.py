"""One turn becomes one message, or an error with the turn's name and the value found."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.contracts import Message
from components.split_data.turns import (
    NOT_TEXT_KEYS,
    REASONING_KEYS,
    ROLES,
    WEIGHT_KEYS,
    RowError,
    message_of,
    parse_json,
    tools_of,
    type_name,
)
from tests.properties import quick


def user(content: Any, **others: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **others}


def assistant(content: Any, **others: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **others}


def reason(turn: Any) -> str:
    with pytest.raises(RowError) as caught:
        message_of(turn)
    return str(caught.value)


@pytest.mark.parametrize(("given_role", "role"), ROLES.items())
def test_every_known_role_has_its_message_role(given_role, role):
    message = message_of({"role": given_role, "content": "x"})
    assert message is not None
    assert message.role == role


def test_sharegpt_keys_are_read_only_where_the_usual_ones_are_missing():
    assert message_of({"from": "human", "value": "Hi"}) == Message(role="user", content="Hi")
    assert message_of({"from": "gpt", "role": "user", "value": "old", "content": "new"}) == Message(
        role="user", content="new"
    )


@pytest.mark.parametrize("content", ["", None])
def test_an_empty_system_turn_is_no_message(content):
    assert message_of({"role": "system", "content": content}) is None


def test_text_is_kept_as_it_is():
    assert message_of(user("  a\n b ")).content == "  a\n b "


def test_text_parts_are_joined_by_newlines():
    parts = ["one", {"type": "text", "text": "two"}, {"type": "input_text", "text": "three"}]
    assert message_of(user(parts)).content == "one\ntwo\nthree"


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {}}, "'image_url'"),
        ({"text": "no type"}, "None"),
        ({"type": "text", "text": 5}, "'text'"),
        (7, "'a number'"),
        (None, "'null'"),
    ],
)
def test_a_part_that_is_not_text_is_an_error_with_its_type(part, kind):
    assert f"the user turn has a part of the type {kind}" in reason(user([part]))


@pytest.mark.parametrize(
    ("turn", "fact"),
    [
        ("Hi", "a turn that is text"),
        ([], "a turn that is a list"),
        ({"content": "x"}, "without 'role' and 'content'"),
        ({"role": "user"}, "without 'role' and 'content'"),
        ({"role": "robot", "content": "x"}, "unknown role 'robot' (known: system, developer, user"),
        ({"role": ["user"], "content": "x"}, "unknown role ['user']"),
        ({"role": None, "content": "x"}, "unknown role None"),
        (user(5), "the user turn is a number"),
        (user({"a": 1}), "the user turn is an object"),
        (user(True), "the user turn is true or false"),
        (user("  \n"), "the user turn has no text"),
        (user(None), "the user turn has no text"),
        (user([]), "the user turn has no text"),
        (user("cut \ud83d"), "the user turn holds a lone surrogate (at 4)"),
        (assistant(""), "the assistant turn has no text"),
        (assistant("x", reasoning=[1]), "the reasoning of the assistant turn is a list"),
        (assistant("x", thinking="\ud800"), "the assistant turn holds a lone surrogate (at 0)"),
        ({"role": "tool", "content": "x", "tool_call_id": 5}, "the tool_call_id of the tool turn is a number"),
        ({"role": "tool", "content": "x", "name": {}}, "the name of the tool turn is an object"),
    ],
)
def test_a_turn_that_is_not_a_message_is_an_error_with_the_value(turn, fact):
    assert fact in reason(turn)


def test_the_name_that_the_caller_gives_is_in_the_error():
    with pytest.raises(RowError, match="the instruction has no text"):
        message_of(user(""), "instruction")


@pytest.mark.parametrize("key", NOT_TEXT_KEYS)
def test_a_picture_or_sound_is_refused_and_an_empty_list_of_them_is_not(key):
    assert f"'{key}'" in reason(user("x", **{key: ["a.png"]}))
    assert message_of(user("x", **{key: []})) == Message(role="user", content="x")


@pytest.mark.parametrize(("key", "next_move"), [("function_call", "tool_calls"), ("refusal", "content")])
def test_a_key_that_would_be_lost_says_which_key_to_write(key, next_move):
    assert reason(assistant("x", **{key: {"name": "f"}})).endswith(f"write it as {next_move}")


@pytest.mark.parametrize("key", WEIGHT_KEYS)
@pytest.mark.parametrize(("value", "weight"), [(0, 0), (1, 1), (True, 1), (False, 0), (1.0, 1), (None, None)])
def test_weights_are_0_or_1_under_each_key(key, value, weight):
    assert message_of(assistant("x", **{key: value})).weight == weight


@pytest.mark.parametrize("value", [0.5, 2, -1, "1", [1], math.nan])
def test_another_weight_is_an_error_with_key_and_value(value):
    assert f"has the loss {value!r}" in reason(assistant("x", loss=value))


@pytest.mark.parametrize("key", REASONING_KEYS)
def test_reasoning_is_stripped_and_kept_under_one_key(key):
    assert message_of(assistant("x", **{key: "\n hm \n"})).reasoning_content == "hm"
    assert message_of(assistant("x", **{key: "  "})).reasoning_content is None


def test_keys_of_an_assistant_turn_are_not_taken_from_a_user_turn():
    message = message_of(user("x", weight=1, reasoning="hm", tool_call_id="c"))
    assert message == Message(role="user", content="x")


def test_a_tool_turn_keeps_its_call_and_may_be_empty():
    message = message_of({"role": "tool", "content": "", "tool_call_id": "c1", "name": "f"})
    assert message == Message(role="tool", content="", tool_call_id="c1", name="f")


CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    "calls",
    [
        [CALL],
        [{"name": "f", "arguments": {"a": 1}}],
        [{"function": {"name": "f", "arguments": '{"a": 1}'}}],
        json.dumps([CALL]),
    ],
)
def test_tool_calls_become_openais_format(calls):
    message = message_of(assistant(None, tool_calls=calls))
    assert message.tool_calls == [CALL]
    assert message.content == ""


def test_a_call_keeps_its_id_and_gets_empty_arguments():
    message = message_of(assistant("x", tool_calls=[{"id": "c1", "function": {"name": "f"}}]))
    assert message.tool_calls == [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}}]


@pytest.mark.parametrize("calls", [None, [], "", "  "])
def test_no_calls_are_none(calls):
    assert message_of(assistant("x", tool_calls=calls)).tool_calls is None


@pytest.mark.parametrize(
    ("calls", "fact"),
    [
        ({"name": "f"}, "'tool_calls' is an object, not a list"),
        (5, "'tool_calls' is a number"),
        ("{", "'tool_calls' is text that is not JSON"),
        (["f"], "'tool_calls' has an entry without the name"),
        ([{"function": None}], "'tool_calls' has an entry without the name"),
        ([{"function": {"name": ""}}], "'tool_calls' has an entry without the name"),
        ([{"name": "f", "arguments": "{"}], "the arguments of 'f' is text that is not JSON"),
        ([{"name": "f", "arguments": [1]}], "the arguments of 'f' are a list"),
        ([{"name": "f", "arguments": {"a": math.nan}}], "'tool_calls' cannot be written as JSON"),
        ([{"name": "f", "arguments": {"a": "\ud800"}}], "'tool_calls' holds a lone surrogate"),
    ],
)
def test_calls_that_are_not_calls_are_errors(calls, fact):
    assert fact in reason(assistant("x", tool_calls=calls))


def test_tools_are_read_from_a_list_or_its_json_text():
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert tools_of({"tools": [tool]}) == tools_of({"tools": json.dumps([tool])}) == [tool]
    assert tools_of({"tools": [tool["function"]]}) == [tool]


@pytest.mark.parametrize("record", [{}, {"tools": None}, {"tools": []}, {"tools": ""}, {"functions": []}, [1], None])
def test_a_record_without_tools_has_none(record):
    assert tools_of(record) is None


def test_former_functions_say_to_write_tools():
    with pytest.raises(RowError, match="write them as tools"):
        tools_of({"functions": [{"name": "f"}]})


@pytest.mark.parametrize(
    ("value", "name"),
    [("", "text"), (1, "a number"), (0.5, "a number"), (False, "true or false"), (None, "null"), (b"", "a bytes")],
)
def test_types_have_json_names(value, name):
    assert type_name(value) == name


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": ' + "9" * 5_000 + "}"])
def test_text_that_json_does_not_read_is_an_error_with_the_name(text):
    with pytest.raises(RowError, match=r"^the column is text that is not JSON"):
        parse_json(text, "the column")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
turn_keys = st.sampled_from(["role", "from", "content", "value", "weight", "reasoning", "tool_calls", "name", "images"])


@quick
@given(st.dictionaries(turn_keys, json_values | st.sampled_from(["user", "assistant", "tool", "system"])))
def test_any_turn_is_a_message_that_can_be_written_or_a_row_error(turn):
    try:
        message = message_of(turn)
    except RowError:
        return
    if message is not None:
        assert Message.model_validate_json(message.model_dump_json().encode()) == message
