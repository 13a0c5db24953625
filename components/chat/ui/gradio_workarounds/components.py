"""Components whose choices are not checked, and a queue that does not poll."""

from __future__ import annotations

from typing import TypeVar

import gradio as gr
from gradio.components import Component

# Gradio's default is a millisecond.
SECONDS_BETWEEN_POLLS = 1.0
AnyComponent = TypeVar("AnyComponent", bound=Component)


def accept_any_choice(component: AnyComponent) -> AnyComponent:
    """The component, with any value as a valid choice. Handlers look a choice up by its user before they use it.

    Gradio 6.31 rejects a choice that this process has not sent ("is not in the list of choices"): such as one from a
    page that was open before the server was restarted (gradio-app/gradio#9896), or a list that has just changed
    (#12246).
    """
    component.preprocess = lambda payload: payload
    return component


def poll_queue_rarely(page: gr.Blocks) -> None:
    """Let the queue, which this page does not use, poll for work once a second.

    Gradio 6.31 does so a thousand times a second, which costs every user's tokens time. No upstream issue known.
    """
    page._queue.sleep_when_free = SECONDS_BETWEEN_POLLS
