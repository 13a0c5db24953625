"""What people's files and rows look like: encodings, tables, parts, and the keys that stand beside a message's text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts.contracts import BaseModelRef, Message
from components.errors import DataError
from components.modeling.base_model import folder_revision
from components.split_data.config import SplitConfig
from tests.conftest import SplitResult, chat, split_data, split_rows

SIZES = {"validation_rows": 1}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def different(n: int) -> list[dict[str, Any]]:
    """Rows that are no near-duplicates of each other."""
    return [chat(f"Question {i} about {'abcdefghijkl'[i] * 4}", f"Reply {i * 13} costs €{i}5") for i in range(n)]


def split_file(folder: Path, path: Path) -> SplitResult:
    return split_data(folder / "split", SplitConfig.model_validate({"data": str(path), **SIZES}))


def kept(result: SplitResult) -> list[list[Message]]:
    return [row.messages for name in ("train", "validation") for row in result.rows(name)]


def one(folder: Path, record: dict[str, Any]) -> list[Message]:
    """The messages of a record that is kept."""
    result = split_rows(folder, [record, *different(4)], **SIZES)
    assert result.reasons() == {}
    line = next(row for row in result.outcomes() if row["line"] == 1)
    return next(row.messages for name in ("train", "validation") for row in result.rows(name) if row.id == line["id"])


def why(folder: Path, record: dict[str, Any]) -> str:
    """Why a record is dropped."""
    result = split_rows(folder, [record, *different(4)], **SIZES)
    assert list(result.reasons()) == [1]
    return result.reasons()[1]


# --- files


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_json_lines_are_read_in_the_encoding_that_they_are_written_in(tmp_path, encoding, ending):
    rows = different(6)
    path = tmp_path / "rows.jsonl"
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + ending for row in rows).encode(encoding))
    result = split_file(tmp_path, path)
    assert result.reasons() == {}
    assert {messages[1].content for messages in kept(result)} == {f"Reply {i * 13} costs €{i}5" for i in range(6)}


def test_a_utf_16_line_behind_utf_8_ones_is_dropped_and_not_guessed(tmp_path):
    """As PowerShell's >> makes them."""
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in different(5)]
    path.write_bytes("".join(f"{line}\n" for line in lines[:4]).encode() + lines[4].encode("utf-16-le"))
    assert "not UTF-8 text" in split_file(tmp_path, path).reasons()[5]


def test_a_file_that_ends_within_a_character_loses_its_last_line_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes("".join(json.dumps(row) + "\n" for row in different(5)).encode("utf-16")[:-1])
    result = split_file(tmp_path, path)
    assert len(kept(result)) >= 4
    assert all("not UTF-8 text" in reason or "not JSON" in reason for reason in result.reasons().values())


@pytest.mark.parametrize("name", ["rows.ndjson", "ROWS.JSONL", "rows.Json", "rows.NDJSON"])
def test_endings_are_known_in_each_case(tmp_path, name):
    rows = different(5)
    text = json.dumps(rows) if name.lower().endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(text)
    assert len(kept(split_file(tmp_path, tmp_path / name))) == 5


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_of_text_is_read_whatever_parts_its_cells(tmp_path, delimiter, encoding):
    path = tmp_path / "rows.csv"
    lines = [f"prompt{delimiter}completion", *(f'"What, {i}?"{delimiter}"Für {i * 17}; yes"' for i in range(5))]
    path.write_bytes("\n".join(lines).encode(encoding))
    assert {messages[0].content for messages in kept(split_file(tmp_path, path))} == {f"What, {i}?" for i in range(5)}


def test_excels_line_that_names_the_separator_is_not_a_row(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("sep=;\nprompt;completion\n" + "".join(f"Ask {i};Say {i * 13}\n" for i in range(4)) + "only one\n")
    result = split_file(tmp_path, path)
    assert len(kept(result)) == 4
    assert result.reasons() == {7: "not as many cells as the header's 2"}


def test_tabs_part_the_cells_of_a_tsv(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("prompt\tcompletion\n" + "".join(f"Ask, {i}\tSay {i * 13}\n" for i in range(4)))
    assert len(kept(split_file(tmp_path, path))) == 4


ODD_COLUMNS = {
    "far dates": pa.array([10**8] * 5, type=pa.date32()),
    "far times": pa.array([10**17] * 5, type=pa.timestamp("ms")),
    "an unknown zone": pa.array([0] * 5, type=pa.timestamp("us", tz="Mars/Base")),
    "nanoseconds": pa.array([10**18 + 1] * 5, type=pa.duration("ns")),
    "text that is not UTF-8": pa.StringArray.from_buffers(
        5, pa.py_buffer(b"".join(i.to_bytes(4, "little") for i in range(0, 12, 2))), pa.py_buffer(b"\xff" * 10)
    ),
}


@pytest.mark.parametrize("name", ODD_COLUMNS)
def test_a_column_that_nobody_needs_is_not_read(tmp_path, name):
    conversations = [row["messages"] for row in different(5)]
    pq.write_table(pa.table({"messages": conversations, "other": ODD_COLUMNS[name]}), tmp_path / "rows.parquet")
    assert len(kept(split_file(tmp_path, tmp_path / "rows.parquet"))) == 5


def test_a_far_date_within_a_message_is_left_out_and_the_message_is_not(tmp_path):
    turns = [[turn | {"at": 10**17} for turn in row["messages"]] for row in different(5)]
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("ms"))])
    table = pa.table({"messages": pa.array(turns, type=pa.list_(message))})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert len(kept(split_file(tmp_path, tmp_path / "rows.parquet"))) == 5


def test_broken_text_in_a_needed_column_drops_its_rows(tmp_path):
    data = b"okay!" * 4 + b"\xff\xfeabc"
    prompts = pa.StringArray.from_buffers(
        5, pa.py_buffer(b"".join(i.to_bytes(4, "little") for i in range(0, 30, 5))), pa.py_buffer(data)
    )
    answers = [f"Say {'vwxyz'[i] * 5} {i}" for i in range(5)]
    pq.write_table(pa.table({"prompt": prompts, "completion": answers}), tmp_path / "rows.parquet")
    assert split_file(tmp_path, tmp_path / "rows.parquet").reasons() == {
        5: "the text of the column 'prompt' is not UTF-8"
    }


def test_the_keys_of_a_table_without_conversations_are_told(tmp_path):
    pq.write_table(pa.table({"question": ["a"], "when": pa.array([1], type=pa.date32())}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"has no 'messages' key \(its keys: question, when\)"):
        split_file(tmp_path, tmp_path / "rows.parquet")


def test_a_csv_whose_first_line_is_too_long_is_a_row_that_is_told(tmp_path):
    (tmp_path / "rows.csv").write_text('{"x": "' + "y" * 1_200_000 + '"}\n')
    with pytest.raises(
        DataError, match=r"none of its 1 rows can be used; the first, line 1: not a CSV row \(field larger"
    ):
        split_file(tmp_path, tmp_path / "rows.csv")


def test_a_table_with_two_columns_of_one_name_is_told(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="has the column 'prompt' twice"):
        split_file(tmp_path, tmp_path / "rows.parquet")


def test_a_hub_data_set_is_read_without_what_nobody_needs(tmp_path, monkeypatch):
    turns = [row["messages"] for row in different(5)]
    table = pa.table({"messages": turns, "when": pa.array([10**17] * 5, type=pa.timestamp("ms"))})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset(table))
    result = split_data(tmp_path / "split", SplitConfig.model_validate({"data": "some/set", **SIZES}))
    assert len(kept(result)) == 5


# --- what the base's template makes of rows

ALTERNATING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_a_row_that_the_template_refuses_is_dropped_and_one_without_a_place_for_its_system_text_is_told(
    tmp_path, tiny_base
):
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    (base / "chat_template.jinja").write_text(ALTERNATING)
    twice = [
        {"role": "user", "content": "One"},
        {"role": "user", "content": "Two"},
        {"role": "assistant", "content": "x"},
    ]
    rows = [
        *different(4),
        {"messages": twice},
        said({"role": "system", "content": "Be brief."}, *chat("a?", "b!")["messages"]),
    ]
    ref = BaseModelRef(address=str(base), revision=folder_revision(base), weight_bytes=0)
    result = split_rows(tmp_path / "split", rows, base_model=ref.model_dump(), **SIZES)
    assert result.reasons() == {5: "the chat template refuses this conversation: Conversation roles must alternate"}
    summary = result.summary()
    assert [(kind.kind, kind.rows) for kind in summary.dropped] == [("chat template", 1)]
    assert summary.moved_system == 1
    page = Path(result.outputs.report).read_text(encoding="utf-8")
    assert "has no system role: in 1 rows the system text" in page


# --- rows


def said(*turns: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"messages": list(turns), **beside}


USER = {"role": "user", "content": "Tell me about lorries please"}


def test_conversations_with_role_and_content_are_taken(tmp_path):
    record = {"conversations": [USER, {"role": "assistant", "content": "They carry things."}]}
    others = [{"conversations": row["messages"]} for row in different(3)]
    assert split_rows(tmp_path, [record, *others], **SIZES).reasons() == {}


def test_parts_of_text_are_joined_by_newlines(tmp_path):
    parts = [{"type": "text", "text": "They carry"}, "many", {"type": "output_text", "text": "things."}]
    assert one(tmp_path, said(USER, {"role": "assistant", "content": parts}))[1].content == "They carry\nmany\nthings."


def test_a_part_that_is_no_text_drops_the_row(tmp_path):
    parts = [{"type": "image_url", "image_url": {"url": "x"}}]
    reason = why(tmp_path, said({"role": "user", "content": parts}, {"role": "assistant", "content": "A lorry."}))
    assert reason == "the user turn has a part of the type 'image_url', and only text is trained on"


@pytest.mark.parametrize("key", ["weight", "train", "training", "loss"])
def test_a_weight_is_kept_under_each_of_its_names(tmp_path, key):
    draft = {"role": "assistant", "content": "A wrong draft", key: 0}
    messages = one(tmp_path, said(USER, draft, USER, {"role": "assistant", "content": "They carry.", key: True}))
    assert [message.weight for message in messages] == [None, 0, None, 1]


def test_a_weight_between_is_a_reason(tmp_path):
    reason = why(tmp_path, said(USER, {"role": "assistant", "content": "They carry.", "weight": 0.5}))
    assert reason == "the assistant turn has the weight 0.5; it is 0 (context alone) or 1 (trained on)"


def test_a_row_of_weight_0_alone_is_dropped(tmp_path):
    reason = why(tmp_path, said(USER, {"role": "assistant", "content": "They carry.", "weight": 0}))
    assert reason == "every answer has weight 0: there is nothing to train on"


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_are_kept_under_each_of_their_names(tmp_path, key):
    messages = one(tmp_path, said(USER, {"role": "assistant", "content": "They carry.", key: "\nLorries, hm.\n"}))
    assert messages[1].reasoning_content == "Lorries, hm."


def test_tools_and_calls_are_kept(tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    answer = {"role": "tool", "content": "sunny", "tool_call_id": "c1"}
    record = said(
        USER, {"role": "assistant", "content": None, "tool_calls": [call]}, answer,
        {"role": "assistant", "content": "It is sunny."}, tools=json.dumps([TOOL]),
    )  # fmt: skip
    messages = one(tmp_path, record)
    assert messages[1].tool_calls == [call | {"function": {"name": "weather", "arguments": {"city": "Rome"}}}]
    assert messages[2] == Message(role="tool", content="sunny", tool_call_id="c1")
    result = split_rows(tmp_path / "again", [record, *different(4)], **SIZES)
    assert [row.tools for name in ("train", "validation") for row in result.rows(name) if row.tools] == [[TOOL]]


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"content": "x", "function_call": {"name": "f"}}, "the assistant turn has a function_call"),
        ({"content": "x", "tool_calls": [{"id": "c1"}]}, "'tool_calls' has an entry without the name of a function"),
        (
            {"content": "x", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "the arguments of 'f' is text that is not JSON",
        ),
        ({"content": "x", "images": ["a"]}, "the assistant turn has 'images', and only text"),
        ({"content": None, "refusal": "No."}, "the assistant turn is a refusal"),
        ({"content": "x", "reasoning_content": ["a"]}, "the reasoning of the assistant turn is a list, not text"),
    ],
)
def test_what_would_be_lost_drops_the_row(tmp_path, turn, reason):
    assert why(tmp_path, said(USER, {"role": "assistant", **turn})).startswith(reason)


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"images": ["a.png"]}, "has 'images', and only text is trained on"),
        ({"functions": [{"name": "f"}]}, "has 'functions', OpenAI's former format; write them as tools"),
        ({"tools": "{"}, "'tools' is text that is not JSON"),
        ({"system": 5}, "the system is a number, not text"),
    ],
)
def test_what_a_record_has_beside_its_turns_is_not_lost(tmp_path, beside, reason):
    assert why(tmp_path, said(USER, {"role": "assistant", "content": "They carry."}, **beside)).startswith(reason)


def test_a_system_text_beside_the_turns_is_the_system_message(tmp_path):
    messages = one(tmp_path, said(USER, {"role": "assistant", "content": "They carry."}, system="Be brief."))
    assert messages[0] == Message(role="system", content="Be brief.")


def test_earlier_exchanges_of_an_alpaca_row_come_first(tmp_path):
    record = {"instruction": "And now?", "output": "It goes on.", "history": [["Who?", "Me."], ["Why?", "Because."]]}
    others = [
        {"instruction": row["messages"][0]["content"], "output": row["messages"][1]["content"]} for row in different(4)
    ]
    result = split_rows(tmp_path, [record, *others], **SIZES)
    said_there = [[message.content for message in messages] for messages in kept(result) if len(messages) == 6]
    assert said_there == [["Who?", "Me.", "Why?", "Because.", "And now?", "It goes on."]]


def test_an_empty_value_that_the_user_gave_is_kept(tmp_path):
    call = {"function": {"name": "f", "arguments": '{"a": null, "b": 1}'}}
    messages = one(tmp_path, said(USER, {"role": "assistant", "content": "x", "tool_calls": [call]}))
    assert messages[1].tool_calls[0]["function"]["arguments"] == {"a": None, "b": 1}


def test_a_row_of_too_many_answers_is_dropped(tmp_path):
    reason = why(tmp_path, chat(*(text for i in range(257) for text in (f"ask {i}", f"say {i}"))))
    assert reason == "has 257 answers; a row may have 256: cut it into conversations"


def test_rows_that_differ_in_what_stands_beside_the_text_are_not_the_same(tmp_path):
    plain = said(USER, {"role": "assistant", "content": "They carry."})
    rows = [plain, plain | {"tools": [TOOL]}, said(USER, {"role": "assistant", "content": "They carry.", "weight": 1})]
    result = split_rows(tmp_path, [*rows, *different(4)], duplicates={"near": "keep"}, **SIZES)
    assert result.reasons() == {}
