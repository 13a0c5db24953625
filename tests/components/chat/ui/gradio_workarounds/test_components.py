"""Components that accept any choice, and a queue that hardly polls."""

from __future__ import annotations

import asyncio

import gradio as gr
import pytest

from components.chat.ui.gradio_workarounds.components import accept_any_choice, poll_queue_rarely


@pytest.mark.parametrize("kind", [gr.Radio, gr.Dropdown])
def test_a_choice_of_an_older_page_is_accepted(kind):
    with pytest.raises(gr.Error, match="is not in the list of choices"):
        kind(["new"], render=False).preprocess("old")
    assert accept_any_choice(kind(["new"], render=False)).preprocess("old") == "old"


def test_several_choices_of_an_older_page_are_accepted():
    dropdown = accept_any_choice(gr.Dropdown(["new"], multiselect=True, render=False))
    assert dropdown.preprocess(["old", "new"]) == ["old", "new"]


def test_the_queue_polls_once_a_second_instead_of_a_thousand_times():
    async def scenario() -> tuple[float, float]:
        with gr.Blocks(analytics_enabled=False) as page:
            pass
        before = page._queue.sleep_when_free
        poll_queue_rarely(page)
        return before, page._queue.sleep_when_free

    before, after = asyncio.run(scenario())
    assert before < 0.1 < after
