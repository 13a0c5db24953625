"""Rows as token sequences: prompts as served, and supervised answers that begin where those end."""

from __future__ import annotations

from typing import Any

import pytest

from components.artifacts.contracts import BaseModelRef, Message, Row
from components.errors import ModelError
from components.modeling.base_model import folder_revision, load_tokenizer
from components.modeling.chat_template import render_with
from components.modeling.supervision import examples_of, prompts_of, sequences_of, turns_of
from components.modeling.token_loss import Example
from components.split_data.formats import messages_of
from pipelines.resolve.tiny_base import CHAT_TEMPLATE
from tests.conftest import chat_rows


@pytest.fixture(scope="module")
def base(tiny_base):
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)


@pytest.fixture
def tokenizer(base):
    return load_tokenizer(base)


def row(*texts: str, tools: Any = None, **last: Any) -> Row:
    """User and assistant in turn; ``last`` is what the last message has beside its words."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return Row(id="r", messages=[*messages[:-1], messages[-1] | last], tools=tools)


def supervised(tokenizer, example: Example) -> str:
    return tokenizer.decode([label for label in example.labels if label != -100])


def written(tokenizer, template: str, given: Row) -> list[str]:
    """Each sequence with its answers in brackets."""
    shown = []
    for example in sequences_of(tokenizer, template, given):
        text, inside = "", False
        for token, label in zip(example.input_ids, example.labels, strict=True):
            if (label != -100) != inside:
                text, inside = text + ("]" if inside else "["), not inside
            text += tokenizer.decode([token])
        shown.append(text + ("]" if inside else ""))
    return shown


def test_labels_are_exactly_the_assistants_words_and_the_end_of_its_turns(tokenizer):
    (example,) = sequences_of(tokenizer, CHAT_TEMPLATE, row("Hi there", "Hello you", "And now?", "Bye"))
    assert supervised(tokenizer, example) == "Hello you<|eot_id|>Bye<|eot_id|>"
    assert all(label in (-100, token) for token, label in zip(example.input_ids, example.labels, strict=True))


def test_what_is_supervised_begins_with_the_first_token_behind_the_served_prompt(tokenizer):
    """A span that is shifted by one token, to either side, fails here."""
    for raw in chat_rows(60):
        given = Row(id="", messages=messages_of(raw, "messages"))
        (example,) = sequences_of(tokenizer, CHAT_TEMPLATE, given)
        begins = [
            i for i, label in enumerate(example.labels) if label != -100 and (i == 0 or example.labels[i - 1] == -100)
        ]
        asked = [
            render_with(tokenizer, CHAT_TEMPLATE, messages, add_generation_prompt=True)
            for messages in prompts_of(given)
        ]
        served = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked]
        assert begins == [len(ids) for ids in served]
        assert all(example.input_ids[: len(ids)] == ids for ids in served)
        assert example.labels[-1] == tokenizer.convert_tokens_to_ids("<|eot_id|>")


def test_token_ids_equal_the_tokenizers_own_on_every_shipped_row(tokenizer):
    for raw in chat_rows(400):
        own = tokenizer.apply_chat_template(raw["messages"], return_dict=True)["input_ids"]
        (example,) = sequences_of(tokenizer, CHAT_TEMPLATE, Row(id="", messages=messages_of(raw, "messages")))
        assert example.input_ids == own


def test_an_answer_that_begins_with_white_space_begins_with_a_token_of_its_own(tokenizer):
    """The template's newline and the answer's would else be one token, and no served prompt ends in its middle."""
    tokenizer.add_tokens(["\n\n"])
    given = row("Hi", "\nYo")
    template = CHAT_TEMPLATE.replace(" | trim", "").replace("\n\n", "\n")
    (example,) = sequences_of(tokenizer, template, given)
    prompt = render_with(tokenizer, template, given.messages[:1], add_generation_prompt=True)
    served = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert example.input_ids[: len(served)] == served
    assert [label != -100 for label in example.labels] == [i >= len(served) for i in range(len(example.input_ids))]
    assert tokenizer.decode(example.input_ids[len(served) :]) == "\nYo<|eot_id|>"


CHATML = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|eot_id|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def test_what_a_template_puts_behind_the_end_of_a_turn_is_not_supervised(tokenizer):
    """ChatML ends each turn with a newline, which no server waits for."""
    assert written(tokenizer, CHATML, row("Hi", "Yo", "So", "Bye")) == [
        "<user>Hi<|eot_id|>\n<assistant>[Yo<|eot_id|>]\n<user>So<|eot_id|>\n<assistant>[Bye<|eot_id|>]\n"
    ]


def test_a_template_that_ends_no_turn_is_ended_by_the_end_of_text(tokenizer):
    """Else the model would never learn to stop."""
    template = CHATML.replace(" + '<|eot_id|>' + '\n'", "")
    assert written(tokenizer, template, row("Hi", "Yo")) == ["<user>Hi<assistant>[Yo<|eot_id|>]"]


def test_a_message_of_weight_0_is_context_and_is_not_trained_on(tokenizer):
    given = row("Hi", "WRONG", "No.", "Yo")
    given.messages[1] = given.messages[1].model_copy(update={"weight": 0})
    assert written(tokenizer, CHATML, given) == [
        "<user>Hi<|eot_id|>\n<assistant>WRONG<|eot_id|>\n<user>No.<|eot_id|>\n<assistant>[Yo<|eot_id|>]\n"
    ]
    assert sequences_of(tokenizer, CHATML, row("Hi", "WRONG", weight=0)) == []


# As Qwen3's: reasoning is written in the last turn only, empty reasoning too.
THINKS = (
    "{% for m in messages %}{{ '<' + m.role + '>' }}{% if m.role == 'assistant' and loop.last %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + ('<|eot_id|>' if m.role == 'assistant' else '') }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_each_answer_is_trained_behind_the_prompt_that_a_server_would_ask_it_with(tokenizer):
    """The first answer stands without reasoning in the second one's prompt: a row of two answers is two sequences."""
    assert written(tokenizer, THINKS, row("a", "b", "c", "d")) == [
        "<user>a<assistant>[<think>\n\n</think>\n\nb<|eot_id|>]",
        "<user>a<assistant>b<|eot_id|><user>c<assistant>[<think>\n\n</think>\n\nd<|eot_id|>]",
    ]


def test_reasoning_of_an_answer_is_trained_and_that_of_earlier_ones_is_not_in_its_prompt(tokenizer):
    given = row("a", "b", "c", "d", reasoning_content="Hm, c.")
    given.messages[1] = given.messages[1].model_copy(update={"reasoning_content": "Hm, a."})
    assert written(tokenizer, THINKS, given) == [
        "<user>a<assistant>[<think>\nHm, a.\n</think>\n\nb<|eot_id|>]",
        "<user>a<assistant>b<|eot_id|><user>c<assistant>[<think>\nHm, c.\n</think>\n\nd<|eot_id|>]",
    ]


# As R1's distilled models: the generation prompt opens reasoning, and the template writes none.
OPENS = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content.split('</think>')[-1] }}"
    "{% if m.role == 'assistant' %}<|eot_id|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant><think>\n' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("content", "reasoning", "taught"),
    [
        ("yes", None, "\n</think>\n\nyes"),
        ("yes", "Hm.", "Hm.\n</think>\n\nyes"),
        ("<think>\nHm.\n</think>\n\nyes", None, "Hm.\n</think>\n\nyes"),
        ("<b>yes</b>", None, "\n</think>\n\n<b>yes</b>"),
    ],
)
def test_where_the_prompt_opens_reasoning_an_answer_closes_it(tokenizer, content, reasoning, taught):
    given = row("a", content, reasoning_content=reasoning)
    assert written(tokenizer, OPENS, given) == [f"<user>a<assistant><think>\n[{taught}<|eot_id|>]"]


# As GLM-4.7's and Nemotron's: the template closes reasoning that it has not opened, or leaves it open.
CLOSES = OPENS.replace(
    "m.content.split('</think>')[-1] }}", "('</think>' if m.role == 'assistant' else '') + m.content }}"
)
LEAVES_OPEN = OPENS.replace(
    "{{ '<' + m.role + '>'", "{{ '<' + m.role + '>' + ('<think>\n' if m.role == 'assistant' and loop.last else '')"
)


@pytest.mark.parametrize(
    ("template", "taught"), [(CLOSES, "</think>yes<|eot_id|>"), (LEAVES_OPEN, "\n</think>\n\nyes<|eot_id|>")]
)
def test_reasoning_is_closed_once_whatever_the_template_writes(tokenizer, template, taught):
    (turn,) = turns_of(tokenizer, template, row("a", "yes"))
    assert (turn.prompt, turn.answer) == ("<user>a<assistant><think>\n", taught)


def test_a_short_answer_is_not_looked_for_in_the_name_of_a_token(tokenizer):
    template = CHATML.replace("{{ '<assistant>' }}", "{{ '<assistant><quiet>' }}")
    (turn,) = turns_of(tokenizer, template, row("Hi", "eot"))
    assert turn.answer == "eot<|eot_id|>"


def test_what_a_template_writes_behind_the_end_of_the_conversation_is_not_supervised(tokenizer):
    """As Phi-3's end of text behind the end of the turn: the next turn's prompt does not have it."""
    template = CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    (text,) = written(tokenizer, template, row("a", "b", "c", "d"))
    assert text.endswith("<user>c<|eot_id|>\n<assistant>[d<|eot_id|>]\n<|eot_id|>")


def test_a_template_without_a_generation_prompt_is_refused(tokenizer):
    template = CHATML.partition("{% if add_generation_prompt")[0].replace("'<' + m.role", "'<|eot_id|>' + m.role")
    with pytest.raises(ModelError, match="it ignores add_generation_prompt"):
        turns_of(tokenizer, template, row("Hi", "Yo"))


def test_what_a_tool_says_may_be_written_as_json(tokenizer):
    template = CHATML.replace("m.content +", "(m.content | tojson if m.role == 'tool' else m.content) +")
    result = '{"temp": 20, "where": "Köln"}'
    given = row("Weather?", "20 degrees.")
    given.messages.insert(1, Message(role="assistant", content="I look.", weight=0))
    given.messages.insert(2, Message(role="tool", content=result))
    assert len(turns_of(tokenizer, template, given)) == 1
    given.messages[1] = given.messages[1].model_copy(update={"tool_calls": CALLS})
    with pytest.raises(ModelError, match="does not write tool calls"):
        turns_of(tokenizer, template, given)


def test_a_prompt_that_says_more_than_the_template_writes_is_followed_by_the_answer(tokenizer):
    """As templates do that close the reasoning at once in their generation prompt."""
    template = CHATML.replace("{{ '<assistant>' }}", "{{ '<assistant><quiet>' }}")
    assert written(tokenizer, template, row("Hi", "Yo")) == ["<user>Hi<|eot_id|>\n<assistant><quiet>[Yo<|eot_id|>]\n"]


def test_a_template_that_asks_for_an_answer_in_another_way_than_it_writes_it_is_refused(tokenizer):
    template = CHATML.replace("{{ '<assistant>' }}", "{{ '<bot>' }}")
    with pytest.raises(ModelError, match=r"asks for this answer with 'bot>' and writes it as 'assistant>Yo<\|eot_id"):
        turns_of(tokenizer, template, row("Hi", "Yo"))


def test_an_answer_that_the_template_changes_is_refused(tokenizer):
    template = CHATML.replace("m.content", "m.content.upper()")
    with pytest.raises(ModelError, match="does not write the answer 'Yo' as it is"):
        turns_of(tokenizer, template, row("HI", "Yo"))


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLS = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]
CALLING = (
    "{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}{{ '<' + m.role + '>' + m.content }}"
    "{% for c in m.tool_calls %}{{ '<call>' + c.function.name + c.function.arguments | tojson }}{% endfor %}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_tools_and_calls_are_written_by_a_template_that_knows_them(tokenizer):
    (turn,) = turns_of(tokenizer, CALLING, row("Weather?", "", tools=TOOLS, tool_calls=CALLS))
    assert turn.prompt.startswith('{"type": "function", "function": {"name": "weather"')
    assert turn.answer == '<call>weather{"city": "Rome"}<|eot_id|>'


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (row("a", "Let me see.", tool_calls=CALLS), r"does not write tool calls \(the call of 'weather' is missing\)"),
        (row("a", "b", tools=TOOLS), r"does not write tools \(the tool 'weather' is missing\)"),
        (row("a", "b", reasoning_content="Hm."), r"does not write the reasoning \(reasoning_content\) 'Hm.'"),
    ],
)
def test_what_a_template_leaves_out_is_named(tokenizer, given, problem):
    with pytest.raises(ModelError, match=problem):
        turns_of(tokenizer, CHATML, given)


def test_a_row_that_is_refused_does_not_stop_the_others(base, tokenizer):
    rows = [row("a", "b"), row("a", "b", tools=TOOLS).model_copy(update={"id": "bad"})]
    examples, refused = examples_of(base, tokenizer, CHATML, rows)
    assert [len(own) for own in examples] == [1, 0]
    assert list(refused) == ["bad"]


def test_a_token_without_a_row_of_the_embedding_is_named(base, tokenizer):
    tokenizer.add_tokens(["<extra>"])
    examples, refused = examples_of(base, tokenizer, CHATML, [row("a", "b <extra>")])
    assert examples == [[]]
    problem = "has the token '<extra>' (number 512), for which the base model's embedding of 512 tokens has no row"
    assert refused == {"r": problem}


def test_messages_without_reasoning_are_what_a_client_sends_back():
    given = row("a", "<think>\nHm.\n</think>\n\nb", "c", "d")
    assert [message.content for message in prompts_of(given)[1]] == ["a", "b", "c"]
    assert Message(role="assistant", content="b") in prompts_of(given)[1]
