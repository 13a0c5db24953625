"""Conversions between the chat's components and what they represent: settings, models, and turns on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.chat.answering.replies import ReplyRequest
from components.chat.client.servers import ChatModel
from components.chat.client.settings import Settings
from components.chat.storage.conversations import ChatTurn, Conversation
from components.chat.ui.assets import as_json


def reply_request(chosen: Sequence[Any]) -> ReplyRequest:
    """The request from the values of ``ChatComponents.chosen``.

    Raises:
        gr.Error: a value is not a number.
    """
    conversation, model, system, temperature, top_p, max_tokens, seed = chosen
    try:
        number = int(seed) if str(seed or "").strip() else None
        settings = Settings(float(temperature), int(max_tokens), float(top_p), number)
    except (TypeError, ValueError) as error:
        raise gr.Error("A value in the settings is not a number; correct it there.", print_exception=False) from error
    return ReplyRequest(str(conversation or ""), str(model or ""), str(system or ""), settings)


def turn_at(opened: Conversation, index: int | Sequence[int], shown: Any) -> ChatTurn:
    """The turn at an index of the chatbot, if its text is the one that is shown there.

    Raises:
        gr.Error: the turn is another one. An answer that could not be saved exists only on the page; and another
            window may have changed the conversation.
    """
    number = index if isinstance(index, int) else index[0]
    if number >= len(opened.turns):
        raise gr.Error("This message was not saved; ask again.", print_exception=False)
    turn, text = opened.turns[number], "".join(shown) if isinstance(shown, list) else str(shown)
    if not turn.content.startswith(text) and not text.startswith(turn.content):
        raise gr.Error("Another window has changed this conversation; load the page again.", print_exception=False)
    return turn


def last_model(turns: Sequence[ChatTurn], labels: Sequence[str]) -> str:
    """The model, of those with these labels, that answered last; empty if none did."""
    return next((turn.model for turn in reversed(turns) if turn.model in labels), "")


def models_json(models: Sequence[ChatModel], examples: Sequence[str]) -> str:
    """Examples and settings of each model, as ``scripts.FOLLOW_MODEL`` reads them; ``examples`` replace a model's."""
    return as_json({
        model.label: {
            "examples": example_messages(examples or model.example_prompts),
            "settings": slider_values(Settings.from_defaults(model.generation)),
        }
        for model in models
    })  # fmt: skip


def example_messages(prompts: Sequence[str]) -> list[gr.chatbot.ExampleMessage]:
    """Prompts as the examples of a chatbot."""
    return [{"text": text} for text in prompts]


def slider_values(settings: Settings) -> list[float]:
    """The values of the sliders, in their order."""
    return [settings.temperature, settings.top_p, settings.max_tokens]
