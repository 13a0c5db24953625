"""Messages that clients send and send back."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.components.model_server.http.protocol.asking import USER, asked


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "Yes.", "refusal": None},
        {
            "role": "assistant",
            "content": "Yes.",
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
            "parsed": {"a": 1},
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Yes.", "annotations": []}], "name": None},
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes."}],
            "provider_specific_fields": {"x": 1},
        },
        {"role": "assistant", "content": "Yes.", "tool_calls": []},
        {"role": "assistant", "content": None, "refusal": "Yes."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Yes."}]},
    ],
    ids=str,
)
def test_an_answer_that_comes_back_is_the_same_turn(message):
    (_, turn, _) = asked(messages=[USER, message, USER]).prompt
    assert turn.model_dump() == {"role": "assistant", "content": "Yes."}


def test_parts_of_a_text_are_lines_and_what_decorates_them_is_left_out():
    parts = [{"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "two"}]
    assert asked(messages=[{"role": "user", "content": parts}]).prompt[0].content == "one\ntwo"


def test_calls_and_reasoning_that_come_back_reach_the_template():
    call = {
        "id": "1",
        "type": "function",
        "index": 0,
        "function": {"name": "add", "arguments": '{"a": 1}', "parsed_arguments": 1},
    }
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    ]
    turn, result = asked(messages=messages).prompt[1:]
    assert turn.tool_calls == [{"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    assert (turn.content, turn.reasoning_content) == ("", "Hm.")
    assert (result.role, result.content, result.tool_call_id) == ("tool", "2", "1")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ([{"type": "text", "text": "a"}] * 65, "65 parts, more than 64"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "part 0 is of type 'image_url'"),
        ([{"type": "text", "text": "a"}, {"type": "input_audio"}], "part 1 is of type 'input_audio'"),
        ([{"type": "refusal", "text": "a"}], "part 0 has no text"),
        ([5], "part 0 is of type 'int'"),
        (5, "valid string"),
        ("x" * 1_000_001, "at most 1000000 characters"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_content_that_is_not_text_is_refused_with_the_part(content, fact):
    with pytest.raises(ValidationError, match=fact):
        asked(messages=[{"role": "user", "content": content}])


def test_parts_may_be_plain_strings():
    assert asked(messages=[{"role": "user", "content": ["a", "b"]}]).prompt[0].content == "a\nb"


@pytest.mark.parametrize("role", ["system", "user", "developer", "tool"])
def test_only_an_assistants_message_may_be_empty(role):
    with pytest.raises(ValidationError, match=f"a {role} message has no content"):
        asked(messages=[{"role": role}])
    assert asked(messages=[USER, {"role": "assistant"}, USER]).prompt[1].content == ""


def test_the_developer_is_the_system():
    assert asked(messages=[{"role": "developer", "content": "Be brief."}, USER]).prompt[0].role == "system"


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"function_call": {"name": "f", "arguments": ""}}, "use tool_calls"),
        ({"audio": {"id": "a"}}, "reads only text"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "no JSON"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, "no JSON object"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": '{"a":' * 100_000}}]}, "no JSON"),
        ({"tool_calls": [{"function": {"name": "f"}}] * 129}, "at most 128"),
        ({"tool_calls": [{"type": "custom", "function": {"name": "f", "arguments": "{}"}}]}, "'function'"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_assistants_message_that_cannot_be_rendered_is_refused(fields, fact):
    with pytest.raises(ValidationError, match=fact):
        asked(messages=[USER, {"role": "assistant", **fields}, USER])


@pytest.mark.parametrize("arguments", ["", "{}", {}])
def test_a_call_without_arguments_has_an_empty_object(arguments):
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    assert asked(messages=[USER, {"role": "assistant", "tool_calls": [call]}]).prompt[1].tool_calls == [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}
    ]
