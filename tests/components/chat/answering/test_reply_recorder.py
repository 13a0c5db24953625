"""A reply in its conversation."""

from __future__ import annotations

import asyncio

import pytest

from components.chat.answering.reply_recorder import ReplyRecorder
from components.chat.storage.completion import Completion
from tests.components.chat.helpers import DONE, contents, store


@pytest.fixture
def recorder(conversations) -> ReplyRecorder:
    (conversation,) = store(conversations, "q")
    return ReplyRecorder(conversations, "ann", conversations.load("ann", conversation), "m", continues=False)


def test_a_reply_is_stored_only_once_it_has_text_and_then_in_one_turn(recorder, conversations):
    async def save() -> list[list[str]]:
        seen = []
        for text in ("", "a", "ab"):
            await recorder.save(Completion(text, len(text)))
            seen.append(contents(conversations, recorder.opened.id))
        return seen

    assert asyncio.run(save()) == [["q"], ["q", "a"], ["q", "ab"]]


def test_the_turns_with_a_reply_name_the_model_that_answered(recorder):
    assert recorder.turns_with(Completion()) == recorder.turns_before
    recorder.model = "other"
    assert [(turn.role, turn.content, turn.model) for turn in recorder.turns_with(DONE)][-1] == (
        "assistant", "yes", "other",
    )  # fmt: skip


def test_the_status_says_what_was_left_out_and_which_model_answers_instead(recorder):
    assert recorder.status(DONE) == DONE.status_line()
    recorder.n_left_out, recorder.model = 1, "other"
    assert recorder.status(DONE).endswith("it did not read the oldest message · m is not available now: other answers")
    recorder.n_left_out, recorder.chosen = 2, ""
    assert recorder.status(DONE).endswith("it did not read the 2 oldest messages")


def test_reasoning_is_quoted_until_there_is_text(recorder):
    assert recorder.text(Completion(reasoning="let me\nthink")) == "> let me\n> think"
    assert recorder.text(Completion("yes", reasoning="let me\nthink")) == "yes"
