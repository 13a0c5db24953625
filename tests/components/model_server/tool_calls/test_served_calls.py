"""Tool calls of a served model, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest

from tests.components.model_server.tool_calls.templates import (
    ASKED,
    PARAMETERS,
    SHORT,
    TOOLS,
)
from tests.conftest import free_port, lorry_process


def test_a_served_model_calls_with_tags_that_are_tokens(qwen):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    flags = ["--model-id", "m", "--n-ctx", "2048", "--parallel", "2", "--port", str(port)]
    with (
        lorry_process("serve", qwen, *flags, ready=f"{address}/readyz"),
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        settings = {"model": "m", "messages": ASKED, "tools": TOOLS, "temperature": 1.2, "seed": 1, "max_tokens": 200}
        choice = client.chat.completions.create(**settings, tool_choice=named("paint")).choices[0]
        assert choice.finish_reason == "tool_calls"
        require_follows(choice.message.tool_calls[0])
        biased = {str(n): -100 for n in range(2)}
        free = client.chat.completions.create(**settings, logit_bias=biased).choices[0]
        assert free.message.content or free.message.tool_calls or free.message.model_extra["reasoning_content"]


@pytest.fixture(scope="module")
def client(tiny_run, tmp_path_factory) -> Iterator[openai.OpenAI]:
    """A client of an untrained model with a template that supports tools."""
    template = tmp_path_factory.mktemp("template") / "short.jinja"
    template.write_text(SHORT)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    flags = ["--chat-template", template, "--model-id", "m", "--parallel", "2", "--port", str(port)]
    with (
        lorry_process("serve", tiny_run.model, *flags, ready=f"{address}/readyz"),
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def require_follows(call: Any) -> None:
    arguments, schema = json.loads(call.function.arguments), PARAMETERS[call.function.name]
    assert set(arguments) == set(schema["required"])
    if call.function.name == "paint":
        assert arguments["colour"] in ("red", "blue")
    else:
        assert all(isinstance(value, int) for value in arguments.values())


def named(name: str) -> Mapping[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("choice", ["required", "named"])
def test_a_call_that_must_come_follows_the_tools_schema(client, choice, seed):
    tool_choice = named("paint") if choice == "named" else choice
    answer = client.chat.completions.create(
        model="m", messages=ASKED, tools=TOOLS, tool_choice=tool_choice, temperature=1.2, seed=seed, max_tokens=200
    ).choices[0]  # fmt: skip
    calls = answer.message.tool_calls
    if answer.finish_reason == "tool_calls":
        (call,) = calls
        require_follows(call)
        assert answer.message.content is None
        assert choice == "required" or call.function.name == "paint"
    else:  # an integer of a model that was taught nothing may have no end
        assert answer.finish_reason == "length"
        assert calls[0].function.name == "add"


def test_a_streamed_call_is_the_whole_ones_and_its_result_goes_back(client):
    settings = {"model": "m", "messages": ASKED, "tools": TOOLS, "tool_choice": named("paint"), "temperature": 0}
    (whole,) = client.chat.completions.create(**settings).choices[0].message.tool_calls
    with client.chat.completions.stream(**settings) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    assert streamed.message.tool_calls[0].function.arguments == whole.function.arguments
    result = {"role": "tool", "tool_call_id": whole.id, "content": "done"}
    messages = [*ASKED, streamed.message, result]
    answer = client.chat.completions.create(model="m", messages=messages, tools=TOOLS, max_tokens=4)
    assert answer.usage.prompt_tokens > 40


def test_tools_stand_in_the_prompt_unless_none_may_be_called(client):
    def n_prompt(**settings: Any) -> int:
        return client.chat.completions.create(model="m", messages=ASKED, max_tokens=1, **settings).usage.prompt_tokens

    assert n_prompt(tools=TOOLS) > n_prompt()
    assert n_prompt(tools=TOOLS, tool_choice="none") == n_prompt()


def test_a_model_whose_template_does_not_support_tools_refuses_them_and_their_calls(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as plain:
        model = plain.models.list().data[0].id
        with pytest.raises(openai.BadRequestError, match="chat template does not support tools") as refused:
            plain.chat.completions.create(model=model, messages=ASKED, tools=TOOLS)
        assert refused.value.param == "tools"
        call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        called = [
            *ASKED,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "2"},
        ]
        with pytest.raises(openai.BadRequestError, match=r"messages.1.tool_calls: .*the call of 'add' would be lost"):
            plain.chat.completions.create(model=model, messages=called)
