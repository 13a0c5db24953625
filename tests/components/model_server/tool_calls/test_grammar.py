"""Which answers a grammar of tool calls allows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.gguf.model import GgufModel
from components.gguf.vocabulary import vocabulary_of
from components.model_server.guided_decoding.grammars import Grammars
from components.model_server.tool_calls.format import CallFormat
from components.model_server.tool_calls.grammar import grammar_of
from components.model_server.tool_calls.parser import ParsedCall, ToolCallParser
from components.model_server.tool_calls.tool_use import ToolUse
from tests.components.model_server.tool_calls.templates import (
    TOOLS,
    form,
    read,
    written,
)

PAINTING = {
    "type": "object",
    "properties": {"colour": {"$ref": "#/$defs/C"}, "note": {"type": "string"}, "coats": {"type": "integer"}},
    "required": ["colour", "note"],
    "$defs": {"C": {"enum": ["red", "blue"]}},
}


@pytest.mark.parametrize("name", ["qwen2_5", "llama3_1", "qwen3_5_nothink", "glm4moe"])
def test_a_grammar_allows_calls_that_follow_the_schema_in_the_templates_form(tiny_run, name):
    found = form(name)
    tools = [{"type": "function", "function": {"name": "paint", "parameters": PAINTING}}, TOOLS[0]]
    model = GgufModel(tiny_run.model, n_ctx=64)
    grammars = Grammars(model)

    def is_allowed(text: str, *, must_call: bool = True, parallel: bool = False) -> bool:
        use = ToolUse(tools, ["paint", "add"], found, must_call=must_call, parallel=parallel)
        matcher = grammars.of_lark(grammar_of(use, None, grammars), "tools")
        tokens = model.tokenize(text, special=False)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    def call(**arguments: Any) -> str:
        return written(found, [ParsedCall("paint", json.dumps(arguments))])

    right = {"colour": "red", "note": "for <b> and me"}
    added = ParsedCall("add", '{"a": 1, "b": 2}')
    assert is_allowed(call(**right))
    assert is_allowed(call(**right, coats=2))
    assert is_allowed(written(found, [added]))
    for wrong in ({**right, "colour": "green"}, {"colour": "red"}, {**right, "coats": "many"}, {**right, "other": 1}):
        assert not is_allowed(call(**wrong)), wrong
    assert not is_allowed(f"Let me see. {call(**right)}")
    assert is_allowed(f"Let me see. {call(**right)}", must_call=False)
    assert is_allowed("Use std::vector<int>, {}.", must_call=False)
    assert not is_allowed(call(**{**right, "colour": "green"}), must_call=False)
    both = written(found, [ParsedCall("paint", json.dumps(right)), added])
    wrong = written(found, [added, ParsedCall("paint", '{"colour": "green", "note": "x"}')])
    if found.between is not None:
        for must_call in (True, False):
            allowed = [is_allowed(both, must_call=must_call, parallel=parallel) for parallel in (True, False)]
            assert allowed == [True, False]
        assert not is_allowed(wrong, must_call=False, parallel=True)
        assert is_allowed(f"{call(**right)}\n\nThat is all.", must_call=False, parallel=True)
    assert not is_allowed(f"{call(**right)}\n\nThat is all.", must_call=False)
    model.close()


def test_names_of_any_text_are_arguments_and_break_out_of_no_grammar(tiny_run):
    names = ["two words", "<b>", '"', "", "a\nb", "\0", "%json {}", "/x/"]
    parameters = {"type": "object", "properties": {name: {"type": "integer"} for name in names}, "required": names}
    tool = {"type": "function", "function": {"name": "add", "parameters": parameters}}
    call = ParsedCall("add", json.dumps(dict.fromkeys(names, 1)))
    model = GgufModel(tiny_run.model, n_ctx=64)
    grammars = Grammars(model)
    for found in (form("glm4moe"), form("qwen3_5_nothink"), form("qwen2_5")):
        grammar = grammar_of(ToolUse([tool], ["add"], found, must_call=True), None, grammars)
        tokens = model.tokenize(written(found, [call]), special=False)
        matcher = grammars.of_lark(grammar, "tools")
        assert matcher.try_consume_tokens(tokens) == len(tokens)
        assert matcher.is_accepting()
        (_, (parsed,)) = read(ToolCallParser(found, {"add": parameters}), written(found, [call]), 2)
        assert json.loads(parsed.arguments) == json.loads(call.arguments)
    model.close()


def test_tags_that_are_tokens_are_used_for_reasoning_and_calls(qwen):
    with vocabulary_of(qwen) as model:
        found = CallFormat.from_template(model)
        assert found is not None
        grammars = Grammars(model)

        def is_allowed(text: str, *, must_call: bool = False, in_reasoning: bool = False) -> bool:
            use = ToolUse(TOOLS, ["paint", "add"], found, must_call=must_call)
            matcher = grammars.of_lark(grammar_of(use, None, grammars, in_reasoning=in_reasoning), "tools")
            tokens = model.tokenize(text, special=True)
            return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

        right, wrong = (written(found, [ParsedCall("paint", f'{{"colour": "{one}"}}')]) for one in ("red", "green"))
        (tag,) = model.tokenize("<tool_call>", special=True)
        assert tag in model.tokenize(right, special=True)
        assert is_allowed(right, must_call=True)
        assert not is_allowed(wrong, must_call=True)
        for before in ("", "Let me see. ", "<think>\nHm, <b>.\n</think>\n\n", "<think>\nHm"):
            assert is_allowed(before), before
            assert is_allowed(f"{before}{right}") == (before != "<think>\nHm")
            assert not is_allowed(f"{before}{wrong}")
        assert is_allowed(f"Hm.</think>{right}", in_reasoning=True)
        assert is_allowed("Hm.</think>Yes.", in_reasoning=True)
        assert not is_allowed(f"Hm. {right}", in_reasoning=True)
