"""Every optional field of OpenAI's requests, as the installed ``openai`` package declares them.

The fields come from the package's own types: one that a later version adds is tried as well, and a type that it adds
fails here until it is in one of the tables below.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections import abc
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Required, Union, get_args, get_origin, get_type_hints

import httpx
import pytest
from openai.types import completion_create_params as texts
from openai.types.chat import chat_completion_assistant_message_param as assistant
from openai.types.chat import chat_completion_content_part_text_param as text_part
from openai.types.chat import chat_completion_developer_message_param as developer
from openai.types.chat import chat_completion_stream_options_param as stream_options
from openai.types.chat import chat_completion_system_message_param as system
from openai.types.chat import chat_completion_user_message_param as user
from openai.types.chat import completion_create_params as chats
from openai.types.shared_params import function_definition, response_format_json_schema
from typing_extensions import is_typeddict

from tests.clients.conftest import KEY, MODEL

Body = dict[str, Any]
CHAT, TEXT = chats.CompletionCreateParamsNonStreaming, texts.CompletionCreateParamsNonStreaming
QUESTION = {"role": "user", "content": "hi"}


def chat(**more: Any) -> Body:
    limit = "max_completion_tokens" if "max_tokens" in more else "max_tokens"
    return {"model": MODEL, "messages": [QUESTION], limit: 1, **more}


def messages(*given: Body) -> Body:
    return chat(messages=list(given))


def part(**more: Any) -> Body:
    return messages({"role": "user", "content": [{"type": "text", "text": "hi", **more}]})


# Makes a body that contains a value of the type, with its required fields.
BODIES: dict[type, Callable[..., Body]] = {
    CHAT: chat,
    TEXT: lambda **more: {"model": MODEL, "prompt": "hi", "max_tokens": 1, **more},
    developer.ChatCompletionDeveloperMessageParam: lambda **more: messages(
        {"role": "developer", "content": "Be brief.", **more}, QUESTION
    ),
    system.ChatCompletionSystemMessageParam: lambda **more: messages(
        {"role": "system", "content": "Be brief.", **more}, QUESTION
    ),
    user.ChatCompletionUserMessageParam: lambda **more: messages(QUESTION | more),
    assistant.ChatCompletionAssistantMessageParam: lambda **more: messages(
        QUESTION, {"role": "assistant", **more}, QUESTION
    ),
    text_part.ChatCompletionContentPartTextParam: part,
    text_part.PromptCacheBreakpoint: lambda **more: part(prompt_cache_breakpoint={"mode": "explicit", **more}),
    stream_options.ChatCompletionStreamOptionsParam: lambda **more: chat(stream=True, stream_options=more),
    chats.PromptCacheOptions: lambda **more: chat(prompt_cache_options=more),
    response_format_json_schema.JSONSchema: lambda **more: chat(
        response_format={"type": "json_schema", "json_schema": {"name": "n", **more}}
    ),
    function_definition.FunctionDefinition: lambda **more: chat(
        tools=[{"type": "function", "function": {"name": "f", **more}}]
    ),
}
NEEDS_TOOLS = (function_definition.FunctionDefinition,)

# Types with optional fields that stand for what Lorry does not do: a request that has one is refused as a whole.
NOT_SERVED = {
    "ImageURL", "ChatCompletionContentPartImageParam", "ChatCompletionContentPartInputAudioParam", "File", "FileFile",
    "FilePromptCacheBreakpoint", "PromptCacheBreakpoint", "Function", "Moderation", "ModerationPolicy", "Custom",
    "WebSearchOptions", "WebSearchOptionsUserLocationApproximate",
}  # fmt: skip

# Where the package's types, or else OpenAI's reference of the API, name a default.
DEFAULTS: dict[type, dict[str, list[Any]]] = {
    CHAT: {
        "frequency_penalty": [0], "presence_penalty": [0], "temperature": [1], "top_p": [1], "n": [1],
        "function_call": ["none"], "tool_choice": ["none"], "logit_bias": [None], "logprobs": [False],
        "modalities": [["text"]], "parallel_tool_calls": [True], "prompt_cache_options": [{"mode": "implicit"}],
        "prompt_cache_retention": ["in_memory", "24h"], "reasoning_effort": ["medium", "none"],
        "response_format": [{"type": "text"}], "service_tier": ["auto", "default"], "stop": [None], "store": [False],
        "stream": [False], "stream_options": [None], "verbosity": ["medium"],
    },
    TEXT: {
        "best_of": [1], "echo": [False], "frequency_penalty": [0], "presence_penalty": [0], "logit_bias": [None],
        "logprobs": [None], "max_tokens": [16], "n": [1], "stop": [None], "stream": [False], "stream_options": [None],
        "suffix": [None], "temperature": [1], "top_p": [1],
    },
    text_part.PromptCacheBreakpoint: {"ttl": ["30m"]},
    stream_options.ChatCompletionStreamOptionsParam: {"include_obfuscation": [True], "include_usage": [False]},
    chats.PromptCacheOptions: {"mode": ["implicit"], "ttl": ["30m"]},
    response_format_json_schema.JSONSchema: {"strict": [False]},
    function_definition.FunctionDefinition: {"strict": [False]},
}  # fmt: skip


def types_in(hint: Any) -> list[type]:
    """Every typed dictionary that a value of the type may hold, itself included."""
    found: list[type] = []

    def walk(hint: Any) -> None:
        if is_typeddict(hint):
            if hint not in found:
                found.append(hint)
                walk_all(get_type_hints(hint, include_extras=True).values())
        else:
            walk_all(get_args(hint))

    def walk_all(hints: Iterable[Any]) -> None:
        for hint in hints:
            walk(hint)

    walk(hint)
    return found


def optional_fields(kind: type) -> dict[str, Any]:
    """Name and type of each; the keys that the class itself counts as optional are wrong for postponed annotations."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not Required}


def documentation(kind: type) -> dict[str, str]:
    """The package's documentation of each field."""
    found: dict[str, str] = {}
    for owner in (kind, *getattr(kind, "__orig_bases__", ())):
        if is_typeddict(owner):
            lines = ast.parse(inspect.getsource(owner)).body[0].body
            for field, text in pairwise(lines):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[field.target.id] = text.value.value
    return found


def empty_values(hint: Any) -> list[Any]:
    """The empty text, list and mapping, where a value of the type may be one."""
    if hint is str:
        return [""]
    origin = get_origin(hint)
    if origin is dict:
        return [{}]
    if origin in (list, abc.Sequence, abc.Iterable):
        return [[]]
    return [value for part in get_args(hint) for value in empty_values(part)] if origin is Union else []


FIELDS = [(kind, name) for kind in BODIES for name in optional_fields(kind)]
EMPTY = [
    (kind, name, value)
    for kind in BODIES
    for name, hint in optional_fields(kind).items()
    for value in empty_values(hint)
]
GIVEN = [(kind, name, value) for kind in DEFAULTS for name, values in DEFAULTS[kind].items() for value in values]


def label(value: Any) -> str:
    if value in (CHAT, TEXT):
        return "chat" if value is CHAT else "text"
    return value.__name__ if isinstance(value, type) else str(value)


Ask = Callable[[type, Body], None]


@pytest.fixture(scope="module")
def answered(request: pytest.FixtureRequest) -> Ask:
    """Sends the body that contains a value of a type, and asserts that it is answered."""

    def send(kind: type, value: Body) -> None:
        address = request.getfixturevalue("tools_server" if kind in NEEDS_TOOLS else "plain_server")
        url = f"{address}/{'completions' if kind is TEXT else 'chat/completions'}"
        body = BODIES[kind](**value)
        response = httpx.post(url, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=90)
        assert response.status_code == 200, f"{json.dumps(body)}\n{response.text}"

    return send


@pytest.mark.parametrize("kind", BODIES, ids=label)
def test_absent_is_answered(answered: Ask, kind: type):
    answered(kind, {})


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=label)
def test_null_means_absent(answered: Ask, kind: type, name: str):
    answered(kind, {name: None})


@pytest.mark.parametrize("kind", BODIES, ids=label)
def test_all_may_be_null_at_once(answered: Ask, kind: type):
    # A chat without any limit goes on until the model ends it.
    limit = {"max_tokens": 1} if kind is CHAT else {}
    answered(kind, dict.fromkeys(optional_fields(kind)) | limit)


@pytest.mark.parametrize(("kind", "name", "value"), EMPTY, ids=label)
def test_empty_means_absent(answered: Ask, kind: type, name: str, value: Any):
    answered(kind, {name: value})


@pytest.mark.parametrize(("kind", "name", "value"), GIVEN, ids=label)
def test_the_documented_default_means_absent(answered: Ask, kind: type, name: str, value: Any):
    answered(kind, {name: value})


def test_every_type_with_optional_fields_has_a_body():
    reached = {kind for request in (CHAT, TEXT) for kind in types_in(request) if optional_fields(kind)}
    unknown = {kind.__name__ for kind in reached - set(BODIES)} - NOT_SERVED
    assert not unknown, f"add to BODIES how a request has them, or to NOT_SERVED that Lorry refuses them: {unknown}"


def test_every_default_that_the_package_documents_is_tried():
    named = {
        (kind, field)
        for kind in BODIES
        for field, text in documentation(kind).items()
        if re.search(r"\bdefault", text, re.I)
    }
    assert len(named) >= 10
    untried = {f"{label(kind)}.{field}" for kind, field in named if field not in DEFAULTS.get(kind, {})}
    assert not untried, f"the package names a default of them; write it into DEFAULTS: {untried}"
