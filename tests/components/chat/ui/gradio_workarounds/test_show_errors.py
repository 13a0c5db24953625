"""Errors of handlers are shown in the status."""

from __future__ import annotations

import asyncio
from inspect import signature

import gradio as gr
import pytest

from components.chat.ui.gradio_workarounds.show_errors import show_errors


def test_an_error_for_the_user_is_shown_and_a_bug_is_not_hidden():
    status = gr.Markdown(render=False)

    async def handler(error: Exception | None) -> dict[object, str]:
        if error is not None:
            raise error
        return {status: "fine"}

    shown = show_errors(status, handler)
    assert asyncio.run(shown(None)) == {status: "fine"}
    assert asyncio.run(shown(gr.Error("The disk is full."))) == {status: "⚠ The disk is full."}
    with pytest.raises(KeyError):
        asyncio.run(shown(KeyError("bug")))


def test_gradio_still_sees_which_parameter_is_the_request():
    async def handler(question: str, request: gr.Request) -> None: ...

    assert list(signature(show_errors(gr.Markdown(render=False), handler)).parameters) == ["question", "request"]
