"""Conversions between components and what they represent."""

from __future__ import annotations

import gradio as gr
import pytest

from components.chat.answering.replies import ReplyRequest
from components.chat.client.settings import Settings
from components.chat.storage.conversations import Conversation
from components.chat.ui.chat_values import last_model, reply_request, turn_at
from tests.components.chat.helpers import turns

OPENED = Conversation("id", "title", "", turns("question", "answer"))


@pytest.mark.parametrize(("seed", "expected"), [("7", 7), (" 7 ", 7), (7, 7), ("", None), (" ", None), (None, None)])
def test_an_empty_seed_is_none_and_a_number_is_one(seed, expected):
    request = reply_request(["id", "m", "Be kind.", 0, 1, 256, seed])
    assert request == ReplyRequest("id", "m", "Be kind.", Settings(seed=expected))


def test_values_of_a_page_that_has_none_yet_are_empty_texts():
    assert reply_request([None, None, None, 0.7, 0.5, 32.0, None]) == ReplyRequest("", "", "", Settings(0.7, 32, 0.5))


@pytest.mark.parametrize("values", [(None, 1, 256, ""), (0, "x", 256, ""), (0, 1, None, ""), (0, 1, 256, "1.5")])
def test_a_setting_that_is_not_a_number_is_an_error_for_the_user(values):
    with pytest.raises(gr.Error, match="A value in the settings is not a number"):
        reply_request(["", "m", "", *values])


@pytest.mark.parametrize(
    ("index", "shown", "role"),
    [(0, "question", "user"), ((1, 0), "answer", "assistant"), (1, ["ans", "wer"], "assistant"),
     (1, "ans", "assistant"),
     (1, "answer and more", "assistant")],
)  # fmt: skip
def test_a_turn_is_found_by_its_index_if_one_text_begins_with_the_other(index, shown, role):
    assert turn_at(OPENED, index, shown).role == role


@pytest.mark.parametrize(("index", "shown", "message"), [(1, "other", "Another window"), (2, "answer", "not saved")])
def test_a_turn_that_is_another_one_or_was_not_saved_is_an_error_for_the_user(index, shown, message):
    with pytest.raises(gr.Error, match=message):
        turn_at(OPENED, index, shown)


def test_the_last_model_is_one_that_is_served():
    assert last_model(OPENED.turns, ["m", "x"]) == "m"
    assert last_model(OPENED.turns, ["x"]) == ""
    assert last_model((), ["m"]) == ""
