"""The CSS of a conversation's state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.chat.storage.completion import Completion
from components.chat.storage.conversations import ChatTurn
from components.chat.ui.gradio_workarounds.state_css import state_css
from tests.components.chat.helpers import DONE, reply, store

QUESTION = ChatTurn(1, "user", "q", "", None, None, "")
ANSWER = ChatTurn(2, "assistant", "yes", "m", DONE, None, "")
STOPPED = replace(ANSWER, completion=Completion("half", 2, 0.1, 0.2, "stopped"))


def test_figures_cannot_leave_their_style_element(conversations):
    (conversation,) = store(conversations, "q")
    reply(conversations, conversations.load("ann", conversation), DONE, model='"}</style><script>')
    css = state_css(conversations.load("ann", conversation).turns)
    style, rest = css.removeprefix("<style>").split("</style>")
    assert "<" not in style
    assert "\\3c script\\3e " in style
    assert rest == '<span id="state" data-state="idle"></span>'


def test_each_answer_has_its_model_and_figures_by_its_number():
    css = state_css([QUESTION, ANSWER, QUESTION, replace(ANSWER, model="other")])
    assert ":nth-child(1 of .bot-row)" in css
    assert ":nth-child(2 of .bot-row)" in css
    assert ":nth-child(3 of .bot-row)" not in css
    assert 'content: "m ' in css
    assert 'content: "other ' in css
    assert "4 tokens" in css


@pytest.mark.parametrize("completion", [Completion("imported"), None])
def test_an_answer_without_figures_has_at_most_its_model(completion):
    css = state_css([QUESTION, replace(ANSWER, completion=completion)])
    assert "token" not in css
    assert ('content: "m"' in css) == (completion is not None)


@pytest.mark.parametrize(
    ("turns", "running", "hidden"),
    [((), False, True), ((QUESTION,), False, True), ((QUESTION, ANSWER), False, True),
     ((QUESTION, STOPPED), False, False), ((QUESTION, STOPPED), True, True)],
)  # fmt: skip
def test_go_on_is_offered_only_after_an_answer_that_can_be_continued(turns, running, hidden):
    assert ("#go-on { display: none; }" in state_css(turns, running=running)) == hidden


def test_the_state_says_whether_an_answer_runs_and_stop_is_dimmed_otherwise():
    assert 'data-state="running"' in state_css((), running=True)
    assert "#stop" not in state_css((), running=True)
    assert "#stop { opacity" in state_css(())
    assert "#why" not in state_css((), asks_why=True)
    assert "#why { display: none" in state_css(())
