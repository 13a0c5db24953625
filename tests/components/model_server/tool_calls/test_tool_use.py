"""Which functions of a request may be called."""

from __future__ import annotations

from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import CallFormat
from components.model_server.tool_calls.tool_use import ToolUse

FORMAT = CallFormat("<call>", ":", JsonArguments(), None, "</call>", {})
ADD = {"type": "object", "properties": {"a": {}}}
TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": ADD}},
    {"type": "function", "function": {"name": "stop"}},
]


def test_parameters_are_those_of_the_functions_that_may_be_called():
    assert ToolUse(TOOLS, ["add", "stop"], FORMAT).parameters == {"add": ADD, "stop": {}}
    assert ToolUse(TOOLS, ["stop"], FORMAT).parameters == {"stop": {}}


def test_by_default_several_calls_may_come_and_none_must():
    use = ToolUse(TOOLS, ["add"], FORMAT)
    assert (use.must_call, use.parallel) == (False, True)
