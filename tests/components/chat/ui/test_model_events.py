"""Handlers that list the models and choose one."""

from __future__ import annotations

import asyncio
import json

import gradio as gr

from components.artifacts.contracts import GenerationDefaults
from components.chat.client.server import ListedModel
from tests.components.chat.helpers import DONE, store


def list_models(view, conversation: str = "", model: str = ""):
    """What is shown after the page is loaded and the servers were asked."""
    (handler,) = [
        fn.fn for fn in view.page.fns.values()
        if fn.fn and fn.trigger_after is not None and view.chat.models in fn.outputs
    ]  # fmt: skip
    return asyncio.run(handler(conversation, model, gr.Request(username="ann")))


def test_the_first_model_is_chosen_or_the_one_that_answered_last(view):
    conversation, _ = store(view.conversations, "q", DONE)
    opened = view.conversations.add_question("ann", conversation, "2", "")
    view.conversations.save_answer("ann", opened, "two", DONE)
    assert list_models(view)[view.chat.model] == gr.update(choices=["one", "two"], value="one")
    assert list_models(view, conversation)[view.chat.model]["value"] == "two"
    assert list_models(view, conversation, "one")[view.chat.model]["value"] == "one", "the user's choice stays"


def test_examples_and_settings_of_each_model_reach_the_browser(view):
    view.api.models = [ListedModel("own", ("What?",), GenerationDefaults(temperature=0.6)), ListedModel("plain")]
    models = json.loads(list_models(view)[view.chat.models])
    assert models["own"] == {"examples": [{"text": "What?"}], "settings": [0.6, 1.0, 256]}
    assert models["plain"] == {"examples": [], "settings": [0.0, 1.0, 256]}


def test_a_server_that_is_gone_is_named_and_no_model_is_chosen(view):
    view.api.models = TimeoutError()
    listed = list_models(view)
    assert "http://api/v1. Is it running? Press Retry" in listed[view.chat.status]
    assert listed[view.chat.model] == gr.update(choices=[], value=None)


def test_relisting_changes_the_model_without_a_message(view):
    view.api.models = [ListedModel("renamed")]
    listed = asyncio.run(view.call(view.chat.relist, "click", "", "one"))
    assert listed[view.chat.model]["value"] == "renamed"
    assert view.chat.status not in listed
