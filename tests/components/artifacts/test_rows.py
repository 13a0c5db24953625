"""Rows on disk and their ids."""

from __future__ import annotations

import numpy as np
import pytest

from components.artifacts.contracts import Message, Row
from components.artifacts.rows import (
    RowWriter,
    data_fingerprint,
    extra_fields_text,
    read_rows,
    row_id,
    write_rows,
)

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "days": 2}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def message(content: str = "Hi", role: str = "user", **rest: object) -> Message:
    return Message.model_validate({"role": role, "content": content, **rest})


def row(*messages: Message, tools: list | None = None) -> Row:
    return Row(id=row_id(messages, tools), messages=list(messages), tools=tools)


ROWS = [
    row(message(), message("Yo", "assistant")),
    row(message("Weather?"), message("", "assistant", tool_calls=[CALL]),
        message("20", "tool", tool_call_id="c1", name="weather"), message("Warm.", "assistant"), tools=[TOOL]),
    row(message("Think"), message("b", "assistant", reasoning_content="a", weight=0), message("c", "assistant")),
    row(message("ünï 日本 🙂\n\t\x00"), message(" spaces ", "assistant")),
]  # fmt: skip


def test_rows_come_back_as_they_were_written(tmp_path):
    write_rows(ROWS, str(tmp_path / "rows"))
    assert read_rows(str(tmp_path / "rows")) == ROWS


def test_a_file_without_rows_is_a_file_of_rows(tmp_path):
    write_rows([], str(tmp_path / "rows"))
    assert read_rows(str(tmp_path / "rows")) == []


def test_selected_rows_of_several_files_are_written_into_one(tmp_path):
    write_rows(ROWS[:2], str(tmp_path / "one"))
    write_rows(ROWS[2:], str(tmp_path / "two"))
    with RowWriter(str(tmp_path / "out")) as writer:
        writer.copy(str(tmp_path / "one"), np.array([False, True]))
        writer.copy(str(tmp_path / "two"), np.array([False, False]))
        writer.copy(str(tmp_path / "two"), np.array([True, False]))
    assert read_rows(str(tmp_path / "out")) == [ROWS[1], ROWS[2]]


def test_an_id_is_32_hexadecimal_digits_and_equal_for_equal_conversations():
    made = row_id(ROWS[0].messages)
    assert len(made) == 32
    assert int(made, 16) >= 0
    assert made == row_id([message(), message("Yo", "assistant")])


@pytest.mark.parametrize(
    "other",
    [
        [message("hi")],
        [message("Hi", "system")],
        [message("Hi", weight=0)],
        [message("Hi", name="Ann")],
        [message("H"), message("i")],
        [message("Hi"), message("", "assistant")],
    ],
)
def test_another_conversation_has_another_id(other):
    assert row_id(other) != row_id([message("Hi")])


def test_white_space_around_a_message_does_not_change_the_id_and_tools_do():
    assert row_id([message(" Hi\n")]) == row_id([message("Hi")])
    assert row_id([message("H i")]) != row_id([message("Hi")])
    assert row_id([message()], [TOOL]) != row_id([message()])
    assert row_id([message()], []) == row_id([message()])


def test_the_extra_fields_are_canonical_text():
    assert extra_fields_text(message()) == ""
    one = {**CALL, "function": {"name": "weather", "arguments": {"city": "Rome", "days": 2}}}
    other = {"function": {"arguments": {"days": 2, "city": "Rome"}, "name": "weather"}, "type": "function", "id": "c1"}
    texts = {extra_fields_text(message("", "assistant", tool_calls=[call])) for call in (one, other)}
    assert len(texts) == 1, "the order of keys is no difference"
    assert extra_fields_text(message(weight=0)) != extra_fields_text(message(weight=1))


def test_the_fingerprint_of_data_depends_on_the_rows_and_their_order():
    assert data_fingerprint(ROWS) == data_fingerprint(list(ROWS))
    assert data_fingerprint(ROWS) != data_fingerprint(ROWS[::-1])
    assert data_fingerprint(ROWS) != data_fingerprint(ROWS[:-1])
    assert len(data_fingerprint([])) == 64
