"""Rendering chat templates."""

from __future__ import annotations

import pytest

from components.artifacts.contracts import BaseModelRef, Message
from components.errors import ModelError
from components.modeling.base_model import folder_revision, load_tokenizer
from components.modeling.chat_template import (
    PROBE,
    Edges,
    answer_edges,
    fingerprint,
    missing_calls,
    render,
    render_with,
    supports_system,
    template_of,
)
from pipelines.resolve.tiny_base import CHAT_TEMPLATE

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0))


def turns(*texts: str) -> list[Message]:
    roles = ("user", "assistant")
    return [Message.model_validate({"role": roles[i % 2], "content": text}) for i, text in enumerate(texts)]


def test_a_template_cannot_reach_the_machine():
    hostile = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(ModelError, match="refuses this conversation: access to attribute '__class__'"):
        render(hostile, turns("a", "b"))


def test_a_template_that_refuses_says_why():
    with pytest.raises(ModelError, match="refuses this conversation: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", turns("a"))


def test_a_broken_template_is_named():
    with pytest.raises(ModelError, match="the chat template cannot be read"):
        render("{% for %}", turns("a"))


def test_the_date_is_pinned():
    template = "{{ strftime_now('%d %b %Y') }}|{{ date_string }}"
    assert render(template, turns("a")) == "26 Jul 2024|26 Jul 2024"


def test_a_tokenizer_without_a_template_is_a_clear_error(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ModelError, match="some/base: its tokenizer has no chat template; choose an instruct model"):
        template_of(tokenizer, "some/base")


def test_fingerprints_differ_as_templates_do():
    assert fingerprint(CHAT_TEMPLATE) != fingerprint(CHATML)


def test_rendering_ends_with_the_generation_prompt_when_asked(tokenizer):
    text = render_with(tokenizer, CHAT_TEMPLATE, turns("Hi"), add_generation_prompt=True)
    assert text.endswith("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")


def test_a_template_with_generation_marks_renders_as_without_them():
    text = render(CHATML, turns("Hi", "Yo"))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"


REFUSES_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
IGNORES_SYSTEM = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, IGNORES_SYSTEM])
def test_a_system_message_that_is_not_supported_begins_the_first_user_turn(template):
    messages = [Message(role="system", content="Be brief."), *turns("Hi", "Yo", "So?")]
    assert not supports_system(template)
    assert render(template, messages) == "[user]Be brief.\n\nHi[assistant]Yo[user]So?"


def test_a_system_message_that_is_supported_stays():
    assert supports_system(CHATML)
    text = render(CHATML, [Message(role="system", content="Be brief."), *turns("Hi")])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}


@pytest.mark.parametrize("arguments", ["c.function.arguments | tojson", "'' + c.function.arguments"])
def test_arguments_of_a_tool_call_have_the_form_that_the_template_accepts(arguments):
    template = "{% for c in messages[0].tool_calls %}{{ c.function.name }}:{{ " + arguments + " }}{% endfor %}"
    assert render(template, [Message(role="assistant", content="", tool_calls=[CALL])]) == 'weather:{"city": "Rome"}'


def test_a_field_that_is_not_set_is_no_key_of_the_message():
    template = "{% for key in messages[0] %}{{ key }} {% endfor %}{{ tools is defined }}"
    assert render(template, turns("Hi")) == "role content False"


def test_tojson_has_the_arguments_of_transformers():
    template = "{{ [1, 'ü'] | tojson(ensure_ascii=True, separators=(',', ':')) }}"
    assert render(template, turns("Hi")) == '[1,"\\u00fc"]'


def test_missing_calls_are_named_with_their_message():
    def calling(*names: str) -> Message:
        return Message(role="assistant", content="", tool_calls=[{"function": {"name": name}} for name in names])

    messages = [Message(role="user", content="add"), calling("add", "paint"), calling("stop")]
    assert list(missing_calls(messages, "call add and stop")) == [(1, "paint")]
    assert list(missing_calls(messages, "")) == [(1, "add"), (1, "paint"), (2, "stop")]
    assert list(missing_calls(messages, "add paint stop")) == []


def test_a_template_that_refuses_every_conversation_does_not_lack_support_for_a_system_message():
    assert supports_system("{{ raise_exception('no') }}")


def test_a_conversation_without_a_user_turn_keeps_its_system_message():
    messages = [Message(role="system", content="Be brief."), Message(role="assistant", content="Yo")]
    with pytest.raises(ModelError, match="System role not supported"):
        render(REFUSES_SYSTEM, messages)


@pytest.mark.parametrize(
    ("template", "edges"),
    [
        (CHATML, Edges()),
        ("{% for m in messages %}[{{ m.role }}]{{ ' ' + m.content }} <e>{% endfor %}"
         "{% if add_generation_prompt %}[assistant]{% endif %}", Edges(" ", " ")),
        ("{% for m in messages %}[{{ m.role }}]{{ m.content }}\n\n{% endfor %}"
         "{% if add_generation_prompt %}[assistant]{% endif %}", Edges()),  # white space after the end of the answer
        ("{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}[bot]{% endif %}", Edges()),
        ("{{ raise_exception('no') }}", Edges()),
    ],
)  # fmt: skip
def test_the_white_space_around_answers_is_found_by_rendering_one(template, edges):
    assert answer_edges(template) == edges


def test_edges_are_removed_once_from_both_ends():
    edges = Edges(" ", "\n")
    assert edges.without("  Yo\n\n") == " Yo\n"
    assert edges.without("Yo") == "Yo"
    assert Edges().without(" Yo ") == " Yo "


def test_edges_of_a_text_without_the_probe_are_none():
    assert Edges.of("something else") == Edges()
    assert Edges.of(f"<s>{PROBE} <e>") == Edges("", " "), "text before the answer is no white space"


def test_calls_that_a_text_lacks_are_named_with_their_message():
    messages = [*turns("Weather?"), Message(role="assistant", content="", tool_calls=[CALL])]
    assert list(missing_calls(messages, "<call>weather")) == []
    assert list(missing_calls(messages, "nothing")) == [(1, "weather")]


def test_variables_of_the_user_reach_the_template():
    template = "{% if enable_thinking %}think{% endif %}{{ messages[0].content }}"
    assert render(template, turns("Hi"), template_kwargs={"enable_thinking": True}) == "thinkHi"
    assert render(template, turns("Hi")) == "Hi"


@pytest.mark.parametrize(
    "template", ["{{ 1 / 0 }}", "{{ messages[5].content }}", "{{ messages[0].content + 1 }}", "{{ undefined.key }}"]
)
def test_an_error_within_a_template_is_a_refusal(template):
    with pytest.raises(ModelError, match="the chat template refuses this conversation: "):
        render(template, turns("Hi"))


def test_of_several_templates_the_default_counts(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", {"default": "a", "tool_use": "b"})
    assert template_of(tokenizer, "base") == "a"
    monkeypatch.setattr(tokenizer, "chat_template", {"tool_use": "b"})
    with pytest.raises(ModelError, match="base: its tokenizer has no chat template"):
        template_of(tokenizer, "base")
