"""Every format of a record becomes messages, or an error that says what the record lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.split_data.formats import KEYS, MAX_ANSWERS, format_of, messages_of, most_common_format
from components.split_data.turns import RowError
from tests.conftest import chat
from tests.properties import quick

SPEAKERS = {"system": "s", "human": "h", "gpt": "g"}
SAME = {
    "messages": {"messages": chat("h", "g")["messages"], "system": "s"},
    "sharegpt": {"conversations": [{"from": speaker, "value": text} for speaker, text in SPEAKERS.items()]},
    "alpaca": {"instruction": "h", "input": "", "output": "g", "system": "s"},
    "prompt_completion": {"prompt": "h", "completion": "g", "system": "s"},
}


def pairs(record: Any, format: str = "messages") -> list[tuple[str, str]]:
    """Roles and texts of a record."""
    return [(message.role, message.content) for message in messages_of(record, format)]


def reason(record: Any, format: str = "messages") -> str:
    with pytest.raises(RowError) as caught:
        messages_of(record, format)
    return str(caught.value)


@pytest.mark.parametrize("format", SAME)
def test_the_same_conversation_in_every_format_has_the_same_messages(format):
    assert pairs(SAME[format], format) == [("system", "s"), ("user", "h"), ("assistant", "g")]


@pytest.mark.parametrize("format", KEYS)
def test_the_keys_of_a_format_show_it(format):
    assert format_of(dict.fromkeys(KEYS[format])) == format


@pytest.mark.parametrize("record", [None, [], "messages", {}, {"instruction": "i"}, {"prompt": "p", "output": "o"}])
def test_a_record_without_the_keys_of_a_format_has_none(record):
    assert format_of(record) is None


def test_a_record_of_several_formats_has_the_first():
    assert format_of({"prompt": "p", "completion": "c", "messages": []}) == "messages"


def test_the_most_common_format_is_counted_over_records_that_have_one():
    records = [None, {}, SAME["messages"], SAME["alpaca"], SAME["alpaca"]]
    assert most_common_format(records) == "alpaca"
    assert most_common_format([None, {}]) is None


def test_sharegpt_may_have_role_and_content():
    assert pairs({"conversations": chat("h", "g")["messages"]}, "sharegpt") == [("user", "h"), ("assistant", "g")]


def test_an_alpaca_input_follows_its_instruction():
    record = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert pairs(record, "alpaca") == [("user", "Add.\n\n1 2"), ("assistant", "3")]


@pytest.mark.parametrize("history", [None, [], [["Who?", "Me."], ("Why?", "Because.")]])
def test_an_alpaca_history_comes_first(history):
    record = {"instruction": "And?", "output": "Yes.", "history": history}
    texts = [text for pair in history or [] for text in pair]
    assert [text for _, text in pairs(record, "alpaca")] == [*texts, "And?", "Yes."]


@pytest.mark.parametrize("history", ["text", [["only one"]], [["a", "b", "c"]], ["ab"], {"a": "b"}])
def test_an_alpaca_history_that_is_no_list_of_pairs_is_an_error(history):
    assert "'history'" in reason({"instruction": "i", "output": "o", "history": history}, "alpaca")


def test_prompt_and_completion_may_be_lists_of_messages():
    record = {"prompt": chat("q")["messages"], "completion": [{"role": "assistant", "content": "a"}]}
    assert pairs(record, "prompt_completion") == [("user", "q"), ("assistant", "a")]


def test_the_turns_may_be_json_text():
    assert pairs({"messages": json.dumps(chat("h", "g")["messages"])}) == [("user", "h"), ("assistant", "g")]


def test_a_system_text_that_the_turns_have_already_is_not_repeated():
    turns = [{"role": "system", "content": "s"}, *chat("h", "g")["messages"]]
    assert pairs({"messages": turns, "system": "s"}) == [("system", "s"), ("user", "h"), ("assistant", "g")]
    assert "another text" in reason({"messages": turns, "system": "other"})


@pytest.mark.parametrize("system", [None, ""])
def test_an_empty_system_text_adds_nothing(system):
    assert pairs({**chat("h", "g"), "system": system}) == [("user", "h"), ("assistant", "g")]


@pytest.mark.parametrize(
    ("record", "fact"),
    [
        ([1, 2], "is a list, not an object"),
        (None, "is null, not an object"),
        ({"text": "x"}, "has no 'messages' key (its keys: text)"),
        ({}, "has no 'messages' key (its keys: none)"),
        ({"instruction": "i", "output": "o"}, "is in the format alpaca, unlike its neighbours in the format messages"),
        ({"messages": []}, "'messages' is not a list with at least one turn"),
        ({"messages": "[]"}, "'messages' is not a list with at least one turn"),
        ({"messages": {"role": "user"}}, "'messages' is not a list"),
        ({"messages": "["}, "'messages' is text that is not JSON"),
        ({"messages": "[" * 100_000}, "'messages' is text that is not JSON"),
        ({"messages": [{"role": "system", "content": "x"}]}, "has no turn of the user"),
        (chat("only a question"), "ends with a turn of the user"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "begins with a turn of the assistant"),
        ({**chat("q", "a"), "images": ["a.png"]}, "has 'images', and only text is trained on"),
        ({**chat("q", "a"), "system": 5}, "the system is a number, not text"),
        (chat(*"qa" * (MAX_ANSWERS + 1)), f"has {MAX_ANSWERS + 1} answers; a row may have {MAX_ANSWERS}"),
    ],
)
def test_a_record_that_is_no_conversation_is_an_error_with_what_it_has(record, fact):
    assert fact in reason(record)


@pytest.mark.parametrize(
    ("record", "format", "fact"),
    [
        ({"instruction": "", "output": "o"}, "alpaca", "the instruction has no text"),
        ({"instruction": "i", "output": None}, "alpaca", "the output has no text"),
        ({"instruction": "i", "input": 5, "output": "o"}, "alpaca", "the input is a number"),
        ({"prompt": "p", "completion": " "}, "prompt_completion", "the completion has no text"),
        ({"prompt": "p"}, "prompt_completion", "has no 'completion' key (its keys: prompt)"),
        ({"text": "p"}, "prompt_completion", "has no 'prompt' and 'completion' key"),
    ],
)
def test_an_error_names_the_key_of_its_format(record, format, fact):
    assert fact in reason(record, format)


def test_the_most_answers_are_allowed():
    assert len(messages_of(chat(*"qa" * MAX_ANSWERS), "messages")) == 2 * MAX_ANSWERS


@pytest.mark.parametrize(("weights", "allowed"), [((0, 0), False), ((0, 1), True), ((0, None), True)])
def test_one_answer_at_least_must_be_trained_on(weights, allowed):
    record = chat("q", "a", "q", "a")
    for turn, weight in zip(record["messages"][1::2], weights, strict=True):
        turn["weight"] = weight
    if allowed:
        assert [message.weight for message in messages_of(record, "messages")[1::2]] == list(weights)
    else:
        assert "every answer has weight 0" in reason(record)


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


@quick
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_one_conversation_is_the_same_in_each_format_that_can_hold_it(exchanges):
    turns = chat(*(text for exchange in exchanges for text in exchange))["messages"]
    expected = [(turn["role"], turn["content"]) for turn in turns]
    *history, (question, answer) = exchanges
    assert pairs({"messages": turns}) == expected
    assert pairs({"conversations": turns}, "sharegpt") == expected
    assert pairs({"instruction": question, "output": answer, "history": history}, "alpaca") == expected
    assert pairs({"prompt": turns[:-1], "completion": turns[-1:]}, "prompt_completion") == expected
