"""How a model calls tools is derived from its chat template."""

from __future__ import annotations

import pytest

from components.model_server.tool_calls.arguments import JsonArguments
from components.model_server.tool_calls.format import ID, CallFormat, supports_tools
from tests.components.model_server.tool_calls.templates import (
    TEMPLATES,
    Rendering,
    form,
)


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
def test_the_format_is_derived_from_the_template(name, head, middle):
    found = form(name)
    assert (found.head, found.middle) == (head, middle)
    # Llama takes one call at a time.
    assert (found.between is None) == name.startswith("llama")


@pytest.mark.parametrize("name", ["gemma", "phi3", "llama3", "gemma4", "muse_glimmer"])
def test_a_template_without_tools_or_with_an_unknown_form_has_no_format(name):
    assert CallFormat.from_template(Rendering((TEMPLATES / f"{name}.jinja").read_text())) is None  # type: ignore[arg-type]


HEAD = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
TAIL = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SHOWN_TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"


def of_calls(calls: str, tools: str = SHOWN_TOOLS) -> CallFormat | None:
    """The format of a template that writes a message's calls by ``calls``."""
    return CallFormat.from_template(Rendering(f"{tools}{HEAD}{calls}{TAIL}"))  # type: ignore[arg-type]


ONE = "<call>{{ call.function.name }}:{{ call.function.arguments | tojson }}</call>"
EACH = "{% for call in message.tool_calls or [] %}" + ONE + "{% endfor %}"


def test_head_middle_between_and_tail_are_the_text_around_calls():
    found = of_calls(EACH)
    assert found is not None
    assert (found.head, found.middle, found.between, found.tail) == ("<call>", ":", "</call><call>", "</call>")
    assert (found.arguments, found.trigger, found.specials) == (JsonArguments(), "<call>", {})


def test_a_template_that_raises_an_error_at_two_calls_has_one_at_a_time():
    found = of_calls("{% if message.tool_calls %}{% if message.tool_calls | length > 1 %}{{ raise_exception('one') }}"
                     "{% endif %}{% endif %}" + EACH)  # fmt: skip
    assert found is not None
    assert found.between is None
    assert found.patterns[2] is None


def test_an_id_may_stand_between_name_and_arguments():
    found = of_calls(EACH.replace("}}:{{", "}}[{{ call.id }}]{{"))
    assert found is not None
    assert found.middle == f"[{ID}]"
    assert found.patterns[1].match("[abc123456]")
    assert not found.patterns[1].match("[]")


def test_reasoning_that_the_template_writes_before_calls_is_no_part_of_them():
    found = of_calls("{% if message.tool_calls %}<think>\n\n</think>\n\n{% endif %}" + EACH)
    assert found is not None
    assert found.head == "<call>"


def test_patterns_match_any_white_space():
    found = of_calls(EACH.replace("<call>", "<call>\n[ ").replace("}}:", "}} : "))
    assert found is not None
    for text in ("<call>\n[ ", "<call>[", " < call >\t[  "):
        assert found.patterns[0].match(text), text


@pytest.mark.parametrize(
    ("calls", "tools"),
    [
        (EACH, ""),
        ("", SHOWN_TOOLS),
        ("{% for call in message.tool_calls or [] %}{{ call.function.name }}{% endfor %}", SHOWN_TOOLS),
        (
            EACH.replace("<call>{{ call.function.name }}:", "").replace("</call>", "{{ call.function.name }}"),
            SHOWN_TOOLS,
        ),
        ("{% for call in message.tool_calls or [] %}{{ raise_exception('no') }}{% endfor %}", SHOWN_TOOLS),
        (EACH.replace("<call>", "\n"), SHOWN_TOOLS),
    ],
    ids=["shows no tools", "writes no calls", "no arguments", "name after arguments", "refuses calls", "no head"],
)
def test_a_template_whose_calls_cannot_be_parsed_has_no_format(calls, tools):
    assert of_calls(calls, tools) is None


def test_a_template_that_refuses_tools_does_not_support_them():
    refusing = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + HEAD + TAIL
    assert not supports_tools(Rendering(refusing))  # type: ignore[arg-type]
    assert supports_tools(Rendering(SHOWN_TOOLS + HEAD + TAIL))  # type: ignore[arg-type]
