"""What a request may say: fields that change nothing, numbers at their edges, messages that come back, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.artifacts.contracts import MAX_TOKENS, GenerationDefaults
from components.errors import LorryError
from components.model_server.engine.interface import Request
from components.model_server.http.protocol import ChatCompletionRequest, CompletionRequest
from components.model_server.http.served_model import ServedModel
from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import CallFormat
from components.modeling.chat_template import Edges

USER = {"role": "user", "content": "Hi"}
FORMAT = CallFormat("<call>", ":", JsonArguments(), None, "</call>", {})
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}
OTHER = {"type": "function", "function": {"name": "subtract"}}


def served(call_format: CallFormat | None = None) -> ServedModel:
    return ServedModel("m", (), GenerationDefaults(), (), {}, lambda _: False, Edges(), call_format)


def asked(*, call_format: CallFormat | None = None, **fields: Any) -> Request:
    body = {"model": "m", "messages": [USER], **fields}
    return ChatCompletionRequest.model_validate(body).to_engine("", served(call_format))


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


REFUSED = [
    ({"n": 2}, "a request has one answer here; send several requests"),
    ({"functions": [TOOL]}, "functions: is not known here; use tools"),
    ({"guided_json": {"type": "object"}}, "guided_json: is not known here; use response_format"),
    ({"repeat_penalty": 1.1}, "repeat_penalty: is not known here; use repetition_penalty"),
    ({"modalities": ["text", "audio"]}, "modalities: this model writes only text"),
    ({"web_search_options": {"a": 1}}, "web_search_options: nothing is searched here"),
    ({"top_logprobs": 3}, "top_logprobs: goes only with logprobs true"),
    ({"tool_choice": "required"}, "tool_choice: there are no tools to choose from"),
    ({"tools": [TOOL], "tool_choice": "some"}, "'some' is no choice; give 'none', 'auto', 'required' or"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}},
        "no tool is called 'no'; there are add",
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
        "more than 1024 calls of tools",
    ),
    ({"chat_template_kwargs": {"a": [1]}}, "a is neither true, false, a number nor a short text"),
    ({"continue_final_message": True}, "goes only with a last message of the assistant that has words"),
    ({"add_generation_prompt": False}, "add_generation_prompt: false goes only with continue_final_message true"),
    ({"messages": [{"role": "user", "content": None}]}, "a message of the user has no content; give a text"),
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
def test_what_would_change_the_answer_and_is_not_done_is_refused_in_words(fields, words):
    with pytest.raises(ValidationError) as refused:
        asked(**fields)
    assert words in str(refused.value)


def test_variables_of_the_template_are_the_requests_and_no_effort_is_no_thinking():
    assert asked(chat_template_kwargs={"enable_thinking": False}).template_kwargs == {"enable_thinking": False}
    assert asked(reasoning_effort="low").template_kwargs == {"reasoning_effort": "low"}
    assert asked(reasoning_effort="none").template_kwargs == {"reasoning_effort": "none", "enable_thinking": False}


def test_tools_are_for_a_template_that_has_a_place_for_them():
    with pytest.raises(LorryError, match="tools: this model's chat template has no place for tools, or writes calls"):
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
def test_a_choice_of_tools_says_which_may_be_called_and_whether_one_must(fields, names, must_call, parallel):
    use = asked(tools=[TOOL, OTHER], call_format=FORMAT, **fields).tools
    assert (use.callable_names, use.must_call, use.parallel) == (names, must_call, parallel)
    assert [tool["function"]["name"] for tool in use.tools] == ["add", "subtract"]


def text_asked(**fields: Any) -> Request:
    return CompletionRequest.model_validate({"model": "m", **fields}).to_engine("", served())


def test_a_prompt_is_a_text_or_token_ids_alone_or_in_a_list():
    assert text_asked(prompt="a").prompt == text_asked(prompt=["a"]).prompt == "a"
    assert text_asked(prompt=[1, 2]).prompt == text_asked(prompt=[[1, 2]]).prompt == [1, 2]
    for several in (["a", "b"], [[1], [2]]):
        with pytest.raises(ValidationError, match="a request has one prompt here; send several requests"):
            text_asked(prompt=several)
    for wrong in (5, {"a": 1}, [1, "a"], [-1], [True]):
        with pytest.raises(ValidationError, match="is neither a text nor a list of token ids"):
            text_asked(prompt=wrong)


def test_a_text_is_as_long_as_it_says_as_the_context_or_16_tokens():
    assert [text_asked(prompt="a", **limit).max_tokens for limit in ({}, {"max_tokens": None})] == [16, 16]
    assert text_asked(prompt="a", max_tokens=-1).max_tokens == MAX_TOKENS


def test_no_tokens_go_only_with_an_echo():
    assert text_asked(prompt="a", max_tokens=0, echo=True, logprobs=2).max_tokens == 0
    with pytest.raises(LorryError, match="max_tokens: 0 goes only with echo; give at least 1"):
        text_asked(prompt="a", max_tokens=0)
    with pytest.raises(ValidationError, match="suffix: nothing is written into the middle of a text here"):
        text_asked(prompt="a", suffix="b")
