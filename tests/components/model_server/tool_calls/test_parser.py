"""What of an answer is text and what is a call, however it is divided into deltas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.model_server.guided_decoding.lark import lark_string
from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import CallFormat
from components.model_server.tool_calls.parser import ParsedCall, ToolCallParser
from tests.components.model_server.tool_calls.templates import (
    CALLS,
    LLAMA_CPP_TEMPLATES,
    NAMES,
    PARAMETERS,
    TEMPLATES,
    form,
    read,
    written,
)

MISTRAL = "mistralai-Mistral-Nemo-Instruct-2407"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["qwen2_5", "llama3_1", MISTRAL, "qwen3_5_nothink", "glm4moe"])
@pytest.mark.parametrize("before", ["", "Let me see.\n"])
def test_an_answer_is_divided_into_text_and_calls_however_it_comes(name, seed, before):
    found = form(name, LLAMA_CPP_TEMPLATES if name == MISTRAL else TEMPLATES)
    calls = CALLS if found.between else CALLS[:1]
    text = before + written(found, calls).replace("\0", "abcdefghi")
    rest, called = read(ToolCallParser(found, PARAMETERS), text, seed)
    assert [(call.name, json.loads(call.arguments)) for call in called] == [
        (call.name, json.loads(call.arguments)) for call in calls
    ]
    assert rest == before.strip()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "text",
    [
        "std::vector<tool> and <tool_cal", "Use <tool_call> to call.",
        '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>',
        '<tool_call>\n{"name": "add", "arguments": 5}\n</tool_call>', "{}", '{"name": "add"}', " white space \n",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_call_is_text_and_nothing_is_lost(text, seed):
    assert read(ToolCallParser(form("qwen2_5"), PARAMETERS), text, seed) == (text, [])


def test_white_space_of_the_models_own_does_not_hide_a_call():
    text = '<tool_call>{ "name" : "add", "arguments": {"a": 1, "b": 2} }</tool_call>\n\n<tool_call> {"name":"paint",'
    text += '"arguments":{}}'
    called = [ParsedCall("add", '{"a": 1, "b": 2}'), ParsedCall("paint", "{}")]
    assert read(ToolCallParser(form("qwen2_5"), PARAMETERS), text, 3) == ("", called)


@pytest.mark.parametrize("n", range(11, 200, 3))
def test_of_a_call_that_is_cut_the_arguments_are_given_as_far_as_they_came(n):
    found = form("qwen2_5")
    whole = written(found, CALLS)
    rest, called = read(ToolCallParser(found, PARAMETERS), whole[:n], n)
    assert rest == ""
    assert [call.name for call in called] == NAMES[: len(called)]
    for one, right in zip(called, CALLS, strict=False):
        assert right.arguments.startswith(one.arguments)
    assert called[:-1] == CALLS[: len(called)][:-1]


def nested(depth: int) -> dict[str, Any]:
    """Small to write, and twice as much at every level for whoever writes it out."""
    levels = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/d0"}},
        "$defs": {**levels, f"d{depth}": {"type": "integer"}},
    }


@pytest.mark.timeout(60)
def test_arguments_of_a_hostile_schema_are_read_in_time():
    found = form("glm4moe")
    parameters = {
        "add": nested(40),
        "paint": {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
    }
    call = ParsedCall("add", '{"x": 5}')
    assert read(ToolCallParser(found, parameters), written(found, [call]), 1) == ("", [call])
    assert found.arguments.rule("a", parameters["add"], "tools", lark_string).startswith("a: a_0?")


SIMPLE = CallFormat("<call>", ":", JsonArguments(), "</call><call>", "</call>", {})


def test_text_before_a_call_comes_at_once_and_the_call_once_it_is_whole():
    parser = ToolCallParser(SIMPLE, PARAMETERS)
    assert parser.feed("Let me see. <ca") == ["Let me see."]
    assert parser.feed('ll>add:{"a": 1, "b": 2') == []
    assert parser.feed("}") == [ParsedCall("add", '{"a": 1, "b": 2}')]
    assert parser.finish() == []
    assert (parser.n_calls, parser.is_truncated) == (1, False)


def test_text_after_the_tail_of_calls_is_text_again_and_another_call_may_come():
    parser = ToolCallParser(SIMPLE, PARAMETERS)
    call = '<call>paint:{"colour": "red"}</call>'
    parsed = parser.feed(f"{call} Done. {call}") + parser.finish()
    assert [one.name if isinstance(one, ParsedCall) else one.strip() for one in parsed] == ["paint", "Done.", "paint"]
    assert parser.n_calls == 2


def test_of_a_truncated_call_the_arguments_come_as_they_are_and_it_is_known():
    parser = ToolCallParser(SIMPLE, PARAMETERS)
    assert parser.feed('<call>add:{"a": 1') == []
    assert parser.finish() == [ParsedCall("add", '{"a": 1')]
    assert (parser.n_calls, parser.is_truncated) == (1, True)


@pytest.mark.parametrize("end", ["<call>", "<call>ad", "<call>add", "<call>add:"])
def test_of_a_call_without_arguments_no_markup_is_left(end):
    parser = ToolCallParser(SIMPLE, PARAMETERS)
    rest = parser.feed(f"So: {end}") + parser.finish()
    assert "<call>" not in "".join(one for one in rest if isinstance(one, str))


def test_each_call_in_openais_form_has_an_id_of_its_own():
    one, other = (ParsedCall("add", "{}").to_openai() for _ in range(2))
    assert one["function"] == other["function"] == {"name": "add", "arguments": "{}"}
    assert one["id"] != other["id"]
    assert one["id"].isalnum()
