"""Calls of tools: how templates write them, what of an answer is a call, and what a grammar lets a model say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
import trl

from components.artifacts.contracts import Message
from components.export_gguf.convert import convert
from components.gguf.model import GgufModel
from components.gguf.vocabulary import vocabulary_of
from components.model_server.guided_decoding.grammars import Grammars
from components.model_server.guided_decoding.lark import lark_string
from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import CallFormat
from components.model_server.tool_calls.grammar import grammar_of
from components.model_server.tool_calls.stream import Call, CallStream
from components.model_server.tool_calls.tool_use import ToolUse
from components.modeling.chat_template import render
from tests.bases import Family, _qwen, of_trl
from tests.conftest import free_port, lorry_process

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
LLAMA_CPP_TEMPLATES = Path(".venv/share/llama.cpp/models/templates")
ADD = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
PAINT = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
TOOLS = [
    {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": ADD}},
    {"type": "function", "function": {"name": "paint", "parameters": PAINT}},
]
PARAMETERS = {"add": ADD, "paint": PAINT}
NAMES = list(PARAMETERS)
ASKED = [{"role": "user", "content": "Hi"}]


# Tokens of their own, by characters that no template has.
ENDS = {0xE000: "<|im_end|>", 0xE001: "<|eot_id|>", 0xE002: "</s>"}
# Shorter than a real one: the model's context is.
SHORT = """{% if tools %}{% for tool in tools %}{{ tool.function | tojson }}{% endfor %}{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<call>{{ call.function.name }}:
{{- call.function.arguments | tojson }}</call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


class Rendering:
    """A model of a template; each character is a token, and so is what ends an answer."""

    def __init__(self, template: str) -> None:
        self._template = template

    def prompt(self, messages: Sequence[Message], **options: Any) -> str:
        options.setdefault("add_generation_prompt", True)
        return render(self._template, messages, bos_token="<s>", eos_token="</s>", **options)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        for token, end in ENDS.items():
            text = text.replace(end, chr(token))
        return list(map(ord, text))

    def piece(self, token: int) -> bytes:
        return b"" if token in ENDS else chr(token).encode()

    def spelled(self, token: int) -> str:
        return ENDS.get(token, chr(token))

    def is_end(self, token: int) -> bool:
        return token in ENDS


def form(name: str, folder: Path = TEMPLATES) -> CallFormat:
    found = CallFormat.of(Rendering((folder / f"{name}.jinja").read_text()))  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "head", "middle"),
    [
        ("qwen2_5", '<tool_call>\n{"name": "', '", "arguments": '),
        ("qwen3", '<tool_call>\n{"name": "', '", "arguments": '),
        ("llama3_1", '{"name": "', '", "parameters": '),
        ("llama3_2", '{"name": "', '", "parameters": '),
        ("qwen3_5_think", "<tool_call>\n<function=", ">\n"),
        ("glm4moe", "<tool_call>", "\n"),
    ],
)
def test_a_templates_way_to_call_is_learnt_from_it(name, head, middle):
    found = form(name)
    assert (found.head, found.middle) == (head, middle)
    # Llama takes one call at a time.
    assert (found.between is None) == name.startswith("llama")


@pytest.mark.parametrize("name", ["gemma", "phi3", "llama3", "gemma4", "muse_glimmer"])
def test_a_template_without_a_place_for_tools_or_with_another_form_has_no_way_to_call(name):
    assert CallFormat.of(Rendering((TEMPLATES / f"{name}.jinja").read_text())) is None  # type: ignore[arg-type]


CALLS = [Call("add", '{"a": 1, "b": {"<tool_call>": "}]"}}'), Call("paint", '{"colour": "red"}')]


def written_arguments(form: Any, arguments: str) -> str:
    if isinstance(form, JsonArguments):
        return arguments
    said = {key: one if isinstance(one, str) else json.dumps(one) for key, one in json.loads(arguments).items()}
    return "".join(f"{form.open}{key}{form.middle}{one}{form.close}" for key, one in said.items())


def written(found: CallFormat, calls: Sequence[Call]) -> str:
    said = [f"{call.name}{found.middle}{written_arguments(found.arguments, call.arguments)}" for call in calls]
    return found.head + (found.between or "").join(said) + found.tail


def read(stream: CallStream, text: str, seed: int) -> tuple[str, list[Call]]:
    """The text and the calls of an answer that comes in pieces."""
    pieces, draw = [], random.Random(seed)
    while text:
        n = draw.randint(1, 9)
        pieces.append(text[:n])
        text = text[n:]
    found = [one for piece in pieces for one in stream.feed(piece)] + stream.rest()
    return "".join(one for one in found if isinstance(one, str)), [one for one in found if isinstance(one, Call)]


MISTRAL = "mistralai-Mistral-Nemo-Instruct-2407"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["qwen2_5", "llama3_1", MISTRAL, "qwen3_5_nothink", "glm4moe"])
@pytest.mark.parametrize("before", ["", "Let me see.\n"])
def test_an_answer_is_parted_into_text_and_calls_however_it_comes(name, seed, before):
    found = form(name, LLAMA_CPP_TEMPLATES if name == MISTRAL else TEMPLATES)
    calls = CALLS if found.between else CALLS[:1]
    text = before + written(found, calls).replace("\0", "abcdefghi")
    said, called = read(CallStream(found, PARAMETERS), text, seed)
    assert [(call.name, json.loads(call.arguments)) for call in called] == [
        (call.name, json.loads(call.arguments)) for call in calls
    ]
    assert said == before.strip()


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
    assert read(CallStream(form("qwen2_5"), PARAMETERS), text, seed) == (text, [])


def test_white_space_of_the_models_own_does_not_hide_a_call():
    said = '<tool_call>{ "name" : "add", "arguments": {"a": 1, "b": 2} }</tool_call>\n\n<tool_call> {"name":"paint",'
    said += '"arguments":{}}'
    called = [Call("add", '{"a": 1, "b": 2}'), Call("paint", "{}")]
    assert read(CallStream(form("qwen2_5"), PARAMETERS), said, 3) == ("", called)


@pytest.mark.parametrize("n", range(11, 200, 3))
def test_of_a_call_that_is_cut_the_arguments_are_given_as_far_as_they_came(n):
    found = form("qwen2_5")
    whole = written(found, CALLS)
    said, called = read(CallStream(found, PARAMETERS), whole[:n], n)
    assert said == ""
    assert [call.name for call in called] == NAMES[: len(called)]
    for one, right in zip(called, CALLS, strict=False):
        assert right.arguments.startswith(one.arguments)
    assert called[:-1] == CALLS[: len(called)][:-1]


PAINTING = {
    "type": "object",
    "properties": {"colour": {"$ref": "#/$defs/C"}, "note": {"type": "string"}, "coats": {"type": "integer"}},
    "required": ["colour", "note"],
    "$defs": {"C": {"enum": ["red", "blue"]}},
}


@pytest.mark.parametrize("name", ["qwen2_5", "llama3_1", "qwen3_5_nothink", "glm4moe"])
def test_a_grammar_lets_a_call_be_what_its_schema_says_in_the_templates_form(tiny_run, name):
    found = form(name)
    tools = [{"type": "function", "function": {"name": "paint", "parameters": PAINTING}}, TOOLS[0]]
    model = GgufModel(tiny_run.model, n_ctx=64)
    grammars = Grammars(model)

    def may_say(text: str, *, must_call: bool = True, parallel: bool = False) -> bool:
        use = ToolUse(tools, ["paint", "add"], found, must_call=must_call, parallel=parallel)
        matcher = grammars.of_lark(grammar_of(use, None, grammars), "tools")
        tokens = model.tokenize(text, special=False)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    def call(**arguments: Any) -> str:
        return written(found, [Call("paint", json.dumps(arguments))])

    right = {"colour": "red", "note": "for <b> and me"}
    added = Call("add", '{"a": 1, "b": 2}')
    assert may_say(call(**right))
    assert may_say(call(**right, coats=2))
    assert may_say(written(found, [added]))
    for wrong in ({**right, "colour": "green"}, {"colour": "red"}, {**right, "coats": "many"}, {**right, "other": 1}):
        assert not may_say(call(**wrong)), wrong
    assert not may_say(f"Let me see. {call(**right)}")
    assert may_say(f"Let me see. {call(**right)}", must_call=False)
    assert may_say("Use std::vector<int>, {}.", must_call=False)
    assert not may_say(call(**{**right, "colour": "green"}), must_call=False)
    both = written(found, [Call("paint", json.dumps(right)), added])
    wrong = written(found, [added, Call("paint", '{"colour": "green", "note": "x"}')])
    if found.between is not None:
        for must_call in (True, False):
            said = [may_say(both, must_call=must_call, parallel=parallel) for parallel in (True, False)]
            assert said == [True, False]
        assert not may_say(wrong, must_call=False, parallel=True)
        assert may_say(f"{call(**right)}\n\nThat is all.", must_call=False, parallel=True)
    assert not may_say(f"{call(**right)}\n\nThat is all.", must_call=False)
    model.close()


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
    call = Call("add", '{"x": 5}')
    assert read(CallStream(found, parameters), written(found, [call]), 1) == ("", [call])
    assert found.arguments.rule("a", parameters["add"], "tools", lark_string).startswith("a: a_0?")


def test_names_of_any_text_are_arguments_and_break_out_of_no_grammar(tiny_run):
    names = ["two words", "<b>", '"', "", "a\nb", "\0", "%json {}", "/x/"]
    parameters = {"type": "object", "properties": {name: {"type": "integer"} for name in names}, "required": names}
    tool = {"type": "function", "function": {"name": "add", "parameters": parameters}}
    call = Call("add", json.dumps(dict.fromkeys(names, 1)))
    model = GgufModel(tiny_run.model, n_ctx=64)
    grammars = Grammars(model)
    for found in (form("glm4moe"), form("qwen3_5_nothink"), form("qwen2_5")):
        grammar = grammar_of(ToolUse([tool], ["add"], found, must_call=True), None, grammars)
        tokens = model.tokenize(written(found, [call]), special=False)
        matcher = grammars.of_lark(grammar, "tools")
        assert matcher.try_consume_tokens(tokens) == len(tokens)
        assert matcher.is_accepting()
        (_, (said,)) = read(CallStream(found, {"add": parameters}), written(found, [call]), 2)
        assert json.loads(said.arguments) == json.loads(call.arguments)
    model.close()


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """A model in whose vocabulary the tags of thoughts and calls are tokens of their own, as in Qwen3's."""
    folder = tmp_path_factory.mktemp("qwen")
    tags = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    family = Family("Qwen3", lambda: _qwen(*tags), lambda: of_trl("qwen3"), (("head_dim", 32),))
    family.make(folder / "base")
    convert(folder / "base", folder / "qwen.gguf")
    return folder / "qwen.gguf"


def test_tags_that_are_tokens_of_their_own_are_thought_and_called_with(qwen):
    with vocabulary_of(qwen) as model:
        found = CallFormat.of(model)
        assert found is not None
        grammars = Grammars(model)

        def may_say(text: str, *, must_call: bool = False, in_thoughts: bool = False) -> bool:
            use = ToolUse(TOOLS, ["paint", "add"], found, must_call=must_call)
            matcher = grammars.of_lark(grammar_of(use, None, grammars, in_thoughts=in_thoughts), "tools")
            tokens = model.tokenize(text, special=True)
            return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

        right, wrong = (written(found, [Call("paint", f'{{"colour": "{one}"}}')]) for one in ("red", "green"))
        (tag,) = model.tokenize("<tool_call>", special=True)
        assert tag in model.tokenize(right, special=True)
        assert may_say(right, must_call=True)
        assert not may_say(wrong, must_call=True)
        for before in ("", "Let me see. ", "<think>\nHm, <b>.\n</think>\n\n", "<think>\nHm"):
            assert may_say(before), before
            assert may_say(f"{before}{right}") == (before != "<think>\nHm")
            assert not may_say(f"{before}{wrong}")
        assert may_say(f"Hm.</think>{right}", in_thoughts=True)
        assert may_say("Hm.</think>Yes.", in_thoughts=True)
        assert not may_say(f"Hm. {right}", in_thoughts=True)


def test_a_served_model_calls_with_tags_that_are_tokens_of_their_own(qwen):
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
    """Of a model that was taught nothing, served with a template that knows tools."""
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


def test_a_model_whose_template_knows_no_tools_refuses_them_and_their_calls(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as plain:
        model = plain.models.list().data[0].id
        with pytest.raises(openai.BadRequestError, match="chat template has no place for tools") as refused:
            plain.chat.completions.create(model=model, messages=ASKED, tools=TOOLS)
        assert refused.value.param == "tools"
        call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        called = [
            *ASKED,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "2"},
        ]
        with pytest.raises(openai.BadRequestError, match=r"messages.1.tool_calls: .*the call of 'add' would vanish"):
            plain.chat.completions.create(model=model, messages=called)
