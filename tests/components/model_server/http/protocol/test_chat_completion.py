"""Requests for chat completions: fields that change nothing, numbers at their edges, refusals, tools."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from components.artifacts.contracts import MAX_TOKENS
from components.errors import LorryError, RequestError
from components.model_server.http.protocol.chat_completion import ChatCompletionRequest
from tests.components.model_server.http.protocol.asking import FORMAT, OTHER, TOOL, USER, asked, served


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"metadata": {"a": "b"}},
        {"service_tier": "flex"},
        {"user": "x" * 4000},
        {"safety_identifier": "u"},
        {"prompt_cache_key": "k"},
        {"prompt_cache_retention": "24h"},
        {"verbosity": "low"},
        {"parallel_tool_calls": True},
        {"prediction": {"type": "content", "content": "x"}},
        {"modalities": ["text"]},
        {"n": 1},
        {"top_logprobs": 0},
        {"stop": ""},
        {"stop": []},
        {"stop": ["", ""]},
        {"logit_bias": {}},
        {"tools": []},
        {"tool_choice": "none"},
        {"tool_choice": "auto"},
        {"function_call": "none"},
        {"functions": []},
        {"cache_prompt": True},
        {"stream_options": {}},
        {"stream_options": {"include_obfuscation": True}},
        {"stream": None},
        {"temperature": None},
        {"response_format": {"type": "text"}},
        {"chat_template_kwargs": {}},
        {"add_generation_prompt": True},
        {"logprobs": False},
    ],
    ids=str,
)
def test_a_field_that_changes_nothing_is_taken_and_changes_nothing(fields):
    assert asked(**fields) == asked()


@pytest.mark.parametrize(
    ("seed", "folded"),
    [(0, 0), (2**32 - 1, 0), (2**32, 1), (1764043200000, 1764043200000 % (2**32 - 1)), (-1, 2**32 - 2)],
)
def test_a_seed_of_any_size_is_folded(seed, folded):
    assert asked(seed=seed).sampling.seed == folded
    assert asked(seed=2**63 - 1).sampling.seed != asked(seed=2**63 - 2).sampling.seed


def test_numbers_at_their_edges_mean_what_other_servers_take_them_for():
    sampling = asked(top_p=0, top_k=-1, temperature=2).sampling
    assert (sampling.top_p, sampling.top_k, sampling.temperature) == (1e-6, 0, 2)
    assert asked().max_tokens is None
    for unlimited in (
        {"max_tokens": -1},
        {"max_completion_tokens": -1},
        {"max_completion_tokens": -1, "max_tokens": 5},
    ):
        assert asked(**unlimited).max_tokens == MAX_TOKENS
    assert asked(stop="END").stop == ["END"]
    assert asked(stop=["a", "", "b"]).stop == ["a", "b"]


REFUSED = [
    ({"n": 2}, "a request has one answer here; send several requests"),
    ({"functions": [TOOL]}, "functions: is not supported; use tools"),
    ({"guided_json": {"type": "object"}}, "guided_json: is not supported; use response_format"),
    ({"repeat_penalty": 1.1}, "repeat_penalty: is not supported; use repetition_penalty"),
    ({"modalities": ["text", "audio"]}, "modalities: this model writes only text"),
    ({"web_search_options": {"a": 1}}, "web_search_options: this server searches nothing"),
    ({"top_logprobs": 3}, "top_logprobs: goes only with logprobs true"),
    ({"tool_choice": "required"}, "tool_choice: there are no tools to choose from"),
    ({"tools": [TOOL], "tool_choice": "some"}, "'some' is no choice; give 'none', 'auto', 'required' or"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}},
        "no tool has the name 'no'; there are add",
    ),
    ({"tools": [TOOL, TOOL]}, "tools: two have the same name; give each its own"),
    ({"tools": [{"type": "web_search"}]}, "a tool of type 'web_search' cannot be used here"),
    ({"response_format": {"type": "json_schema"}}, "has no json_schema; give"),
    ({"chat_template_kwargs": {"messages": "x"}}, "messages cannot be set there; leave it out"),
    ({"chat_template_kwargs": {"\ud800": 1}}, "is no name of a variable; leave it out"),
    ({"n": 2.0}, "a request has one answer here"),
    ({"n": "3"}, "a request has one answer here"),
    ({"chat_template_kwargs": {"range": 1}}, "range cannot be set there; leave it out"),
    (
        {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}] * 40}] * 30},
        "more than 1024 tool calls",
    ),
    ({"chat_template_kwargs": {"a": [1]}}, "a is neither true, false, a number nor a short text"),
    ({"continue_final_message": True}, "goes only with a last message of the assistant that has text"),
    ({"add_generation_prompt": False}, "add_generation_prompt: false goes only with continue_final_message true"),
    ({"messages": [{"role": "user", "content": None}]}, "a user message has no content; give a text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "part 0 is of type 'image_url': this model reads only text",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "part 0 has no text; give"),
    ({"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": ""}}]}, "use tool_calls"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "is no JSON",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]},
        "is no JSON object",
    ),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED, ids=str)
def test_a_field_that_would_change_the_answer_and_is_not_supported_is_refused(fields, words):
    with pytest.raises(ValidationError) as refused:
        asked(**fields)
    assert words in str(refused.value)


def test_variables_of_the_template_are_the_requests_and_no_effort_is_no_thinking():
    assert asked(chat_template_kwargs={"enable_thinking": False}).template_kwargs == {"enable_thinking": False}
    assert asked(reasoning_effort="low").template_kwargs == {"reasoning_effort": "low"}
    assert asked(reasoning_effort="none").template_kwargs == {"reasoning_effort": "none", "enable_thinking": False}


def test_tools_need_a_template_that_supports_them():
    with pytest.raises(LorryError, match="tools: this model's chat template does not support tools, or writes calls"):
        asked(tools=[TOOL])
    assert asked(tools=[TOOL], tool_choice="none").tools is None


@pytest.mark.parametrize(
    ("fields", "names", "must_call", "parallel"),
    [
        ({}, ["add", "subtract"], False, True),
        ({"parallel_tool_calls": False}, ["add", "subtract"], False, False),
        ({"tool_choice": "required"}, ["add", "subtract"], True, False),
        ({"tool_choice": "required", "parallel_tool_calls": True}, ["add", "subtract"], True, True),
        ({"tool_choice": {"type": "function", "function": {"name": "subtract"}}}, ["subtract"], True, False),
    ],
    ids=str,
)
def test_tool_choice_sets_which_functions_may_or_must_be_called(fields, names, must_call, parallel):
    use = asked(tools=[TOOL, OTHER], call_format=FORMAT, **fields).tools
    assert (use.callable_names, use.must_call, use.parallel) == (names, must_call, parallel)
    assert [tool["function"]["name"] for tool in use.tools] == ["add", "subtract"]


def test_a_conversation_is_bounded_as_a_whole_with_its_reasoning():
    long = {"role": "assistant", "content": "x" * 400_000, "reasoning_content": "y" * 200_000}
    assert len(asked(messages=[USER, long, USER]).prompt) == 3
    with pytest.raises(RequestError, match="1000000 characters in all; shorten the conversation") as refused:
        asked(messages=[USER, long, long, USER])
    assert refused.value.field == "messages"


def test_log_probabilities_are_asked_for_with_or_without_alternatives():
    assert asked().top_logprobs is None
    assert asked(logprobs=True).top_logprobs == 0
    assert asked(logprobs=True, top_logprobs=3).top_logprobs == 3
    assert asked(logprobs=False, top_logprobs=0).top_logprobs is None


def test_a_schema_is_passed_on_as_json():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    request = asked(response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    assert json.loads(request.json_schema) == schema
    assert asked(response_format={"type": "text"}).json_schema is None


@pytest.mark.parametrize(
    ("fields", "opens"),
    [
        ({}, True),
        ({"response_format": {"type": "json_object"}}, False),
        ({"tools": [TOOL], "tool_choice": "required"}, False),
        ({"tools": [TOOL]}, True),
        ({"messages": [USER, {"role": "assistant", "content": "I"}], "continue_final_message": True}, False),
    ],
    ids=str,
)
def test_an_answer_begins_with_reasoning_only_where_nothing_else_must_come_first(fields, opens):
    body = {"model": "m", "messages": [USER], **fields}
    model = replace(served(FORMAT), opens_reasoning=lambda _: True)
    assert ChatCompletionRequest.model_validate(body).to_engine("", model).opens_reasoning == opens


def test_max_completion_tokens_is_before_max_tokens():
    assert asked(max_tokens=5).max_tokens == 5
    assert asked(max_tokens=5, max_completion_tokens=7).max_tokens == 7


def test_token_counts_come_in_a_stream_if_its_options_include_them():
    def wants(**fields) -> bool:
        return ChatCompletionRequest.model_validate({"model": "m", "messages": [USER], **fields}).wants_usage

    assert not wants()
    assert not wants(stream_options={"include_usage": False})
    assert wants(stream_options={"include_usage": True})


def test_a_temperature_close_to_zero_is_zero():
    assert [asked(temperature=value).sampling.temperature for value in (0, 1e-9, 0.0099, 0.01)] == [0, 0, 0, 0.01]
