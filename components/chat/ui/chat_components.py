"""The components of the chat."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from components.chat.client.settings import HIGHEST_MAX_TOKENS, LOWEST_MAX_TOKENS, LOWEST_TOP_P, Settings
from components.chat.ui.chat_values import example_messages, slider_values
from components.chat.ui.gradio_workarounds.components import accept_any_choice
from components.chat.ui.gradio_workarounds.markdown_script import MATHS
from components.chat.ui.gradio_workarounds.state_css import state_css


class ChatComponents:
    """Draws the chat within a ``gr.Blocks``."""

    def __init__(self, examples: Sequence[str]) -> None:
        self._draw_list()
        self._draw_hidden()
        self._draw_chat(examples)
        self._draw_settings()
        self.sliders = [self.temperature, self.top_p, self.max_tokens]
        # What a reply depends on, in the order of ``reply_request``.
        self.chosen = [self.conversation, self.model, self.system, *self.sliders, self.seed]
        self.shown = [self.chatbot, self.status, self.state_css]
        # The inputs of ``scripts.FOLLOW_SHOWN``.
        self.followed = [self.conversation, self.state_css, self.accepted, self.chatbot]

    def _draw_list(self) -> None:
        with gr.Sidebar(elem_id="sidebar", width=280):
            self.new = gr.Button("New chat", elem_id="new", variant="primary")
            self.list = accept_any_choice(gr.Radio([], label="Conversations", elem_id="conversations"))
            self.title = gr.Textbox(label="Title", elem_id="title", max_lines=1, submit_btn="Rename")
            with gr.Row():
                self.save_markdown = gr.Button("Export as Markdown", elem_id="save-markdown", size="sm")
                self.save_rows = gr.Button("Export as data", elem_id="save-rows", size="sm")
            self.delete = gr.Button("Delete", elem_id="delete", size="sm", variant="stop")

    def _draw_hidden(self) -> None:
        """Values that only events and the page's script use.

        They are hidden textboxes, not ``gr.State``: a state has no event for a change by a script, and the server
        forgets it with the session. Each handler checks that the conversation belongs to the user.
        """
        self.conversation = gr.Textbox("", visible="hidden")
        # The turn that was liked or disliked last.
        self.rated = gr.Textbox("", visible="hidden")
        # A new value for each question that the page has accepted.
        self.accepted = gr.Textbox("", visible="hidden")
        # The page's script presses these to draw a snapshot, to open the conversation again, or to list the models.
        self.draw_reply = gr.Button(visible="hidden", elem_id="draw-answers")
        self.reopen = gr.Button(visible="hidden", elem_id="reopen")
        self.relist = gr.Button(visible="hidden", elem_id="relist")
        # Examples and settings of each model, and the settings as the page has set them.
        self.models = gr.Textbox("{}", visible="hidden")
        self.default_sliders = gr.JSON(slider_values(Settings()), visible="hidden")
        self.file_name, self.file_text = gr.Textbox(visible=False), gr.Textbox(visible=False)

    def _draw_chat(self, examples: Sequence[str]) -> None:
        self.model = accept_any_choice(gr.Dropdown([], label="Model", elem_id="model"))
        self.chatbot = gr.Chatbot(
            elem_id="chat", show_label=False, buttons=["copy", "copy_all"], editable="user",
            placeholder="Ask something. Enter sends, Shift+Enter makes a new line, Escape stops.",
            latex_delimiters=MATHS, examples=example_messages(examples), feedback_options=["Like", "Dislike"],
        )  # fmt: skip
        self.state_css = gr.HTML(state_css(()), visible="hidden")
        self.status = gr.Markdown(elem_id="status")
        with gr.Row(elem_id="why"):
            self.note = gr.Textbox(
                elem_id="note", label="Why?", show_label=False, placeholder="Why? (optional)", scale=6, max_lines=3,
                submit_btn="Save",
            )  # fmt: skip
        with gr.Row(elem_id="asking"):
            self.question = gr.Textbox(
                elem_id="question", label="Your message", show_label=False, placeholder="Your message", scale=6,
                autofocus=True, max_lines=8,
            )  # fmt: skip
            self.send = gr.Button("Send", elem_id="send", variant="primary", min_width=80)
            self.stop = gr.Button("Stop", elem_id="stop", variant="stop", min_width=80)
        with gr.Row():
            self.retry = gr.Button("Retry", elem_id="retry", size="sm", min_width=80)
            self.go_on = gr.Button("Go on", elem_id="go-on", size="sm", min_width=80)
            self.clear = gr.Button("Clear", elem_id="clear", size="sm", min_width=80)

    def _draw_settings(self) -> None:
        with gr.Accordion("Settings", open=False):
            self.system = gr.Textbox("", label="System prompt", elem_id="system", lines=2)
            temperature, top_p, max_tokens = slider_values(Settings())
            self.temperature = gr.Slider(
                0.0, 2.0, temperature, step=0.05, label="Temperature (0 = the likeliest words)"
            )
            self.top_p = gr.Slider(LOWEST_TOP_P, 1.0, top_p, step=0.01, label="Top-p (share of the likeliest words)")
            self.max_tokens = gr.Slider(
                LOWEST_MAX_TOKENS, HIGHEST_MAX_TOKENS, max_tokens, step=16, label="Length limit (tokens)"
            )
            # An empty gr.Number would be 0.
            self.seed = gr.Textbox("", label="Seed (empty = a new one each time)", elem_id="seed", max_lines=1)
