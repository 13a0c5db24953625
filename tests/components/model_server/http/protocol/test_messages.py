"""Messages that clients send and send back."""

from __future__ import annotations

import pytest

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


def test_calls_and_thoughts_that_come_back_are_given_to_the_template():
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
