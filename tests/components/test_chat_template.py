"""Rendering templates, and telling the assistant's words from the rest."""

from __future__ import annotations

import pytest

from components.base_model import folder_revision, load_tokenizer
from components.chat_template import (
    fingerprint,
    render,
    render_with,
    supervised_spans,
    template_of,
    tokenize_conversation,
)
from components.contracts import BaseModelRef, Message
from components.errors import ModelError
from components.split_data.forms import messages_of
from pipelines.tiny_base import CHAT_TEMPLATE
from tests.conftest import chat_rows

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


def test_labels_are_exactly_the_assistants_words_and_the_end_of_its_turns(tokenizer):
    ids, labels = tokenize_conversation(tokenizer, CHAT_TEMPLATE, turns("Hi there", "Hello you", "And now?", "Bye"))
    supervised = tokenizer.decode([label for label in labels if label != -100])
    assert supervised == "Hello you<|eot_id|>Bye<|eot_id|>"
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))


def test_token_ids_equal_the_tokenizers_own_on_every_shipped_row(tokenizer):
    for row in chat_rows(400):
        own = tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
        assert tokenize_conversation(tokenizer, CHAT_TEMPLATE, messages_of(row, "messages"))[0] == own


def test_a_template_with_generation_marks_renders_as_without_them(tokenizer):
    text, spans = supervised_spans(tokenizer, CHATML, turns("Hi", "Yo"))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"
    assert [text[start:end] for start, end in spans] == ["Yo<|im_end|>"]


def test_an_answer_that_begins_with_white_space_begins_with_a_token_of_its_own(tiny_base):
    """The template's newline and the answer's would else be one token, and no served prompt ends in its middle."""
    tokenizer = load_tokenizer(
        BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)
    )
    tokenizer.add_tokens(["\n\n"])
    messages = turns("Hi", "\nYo")
    template = CHAT_TEMPLATE.replace(" | trim", "").replace("\n\n", "\n")
    ids, labels = tokenize_conversation(tokenizer, template, messages)
    prompt = render_with(tokenizer, template, messages[:1], add_generation_prompt=True)
    served = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert ids[: len(served)] == served
    assert [label != -100 for label in labels] == [place >= len(served) for place in range(len(ids))]
    assert tokenizer.decode(ids[len(served) :]) == "\nYo<|eot_id|>"


def test_what_a_template_puts_behind_the_end_of_a_turn_is_not_supervised(tokenizer):
    """ChatML ends each turn with a newline, which no server waits for."""
    template = (
        "{% for m in messages %}{{ m.role + '\n' + m.content + '<|eot_id|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
    )
    text, spans = supervised_spans(tokenizer, template, turns("Hi", "Yo", "So", "Bye"))
    assert text == "user\nHi<|eot_id|>\nassistant\nYo<|eot_id|>\nuser\nSo<|eot_id|>\nassistant\nBye<|eot_id|>\n"
    assert [text[start:end] for start, end in spans] == ["Yo<|eot_id|>", "Bye<|eot_id|>"]


def test_marks_that_leave_out_the_end_of_a_turn_are_widened_to_it(tokenizer):
    """Else the model would never learn to stop."""
    template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}<|eot_id|>\n{% endfor %}"
    text, spans = supervised_spans(tokenizer, template, turns("Hi", "Yo")[1:])
    assert [text[start:end] for start, end in spans] == ["Yo<|eot_id|>"]


THOUGHTLESS = (
    "{% for m in messages %}{{ '<' + m.role + '>' }}{% if m.role == 'assistant' %}"
    "{% if loop.last %}<think></think>{% endif %}{{ m.content | trim }}<|eot_id|>"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_template_that_rewrites_earlier_turns_still_tells_the_assistants_words(tokenizer):
    """As those do that drop the thoughts of all turns but the last."""
    messages = turns("a", " b ", "c", "d")
    text, spans = supervised_spans(tokenizer, THOUGHTLESS, messages)
    assert text == render_with(tokenizer, THOUGHTLESS, messages)
    assert text == "<user>a<assistant>b<|eot_id|><user>c<assistant><think></think>d<|eot_id|>"
    assert [text[start:end] for start, end in spans] == ["b<|eot_id|>", "d<|eot_id|>"]


def test_a_template_that_rewrites_the_assistants_words_is_refused_with_what_to_do(tokenizer):
    shouting = "{% for m in messages %}{{ (m.content | upper | length) if loop.last else '...' }}|{% endfor %}"
    with pytest.raises(ModelError, match=r"cannot tell which words are the assistant's: add {% generation %}"):
        supervised_spans(tokenizer, shouting, turns("a", "b", "c", "d"))


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
