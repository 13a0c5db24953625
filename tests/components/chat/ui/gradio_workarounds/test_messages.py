"""A chatbot's messages and marks in Gradio's own form."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest

from components.chat.ui.gradio_workarounds.messages import chat_messages, chat_update, liked_by_mark, marks
from tests.components.chat.helpers import turns


def test_messages_are_what_gradio_itself_would_send():
    messages = turns("q", "<b>yes</b>")
    chatbot = gr.Chatbot(render=False)
    plain = [{"role": turn.role, "content": turn.content} for turn in messages]
    sent = chatbot.postprocess(plain)
    assert sent is not None
    assert chat_messages(messages) == sent.model_dump()


def test_marks_are_of_answers_only():
    question, good, _, bad, _, unrated = turns(*"abcdef")
    rated = (question, replace(good, liked=True), question, replace(bad, liked=False), question, unrated)
    assert marks(rated) == ["Like", "Dislike", None]
    update = chat_update(rated)
    assert (update["feedback_value"], len(update["value"])) == (["Like", "Dislike", None], 6)


@pytest.mark.parametrize(
    ("mark", "liked"), [("Like", True), ("Dislike", False), (True, True), (False, False), ("", None), (None, None)]
)
def test_a_mark_is_an_opinion_and_its_removal_is_none(mark, liked):
    assert liked_by_mark(mark) is liked
