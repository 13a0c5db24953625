"""One prompt, several models side by side; which model is which can stay hidden until the vote."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from components.chat.answering.comparing import LETTERS, RunningComparisons, heading
from components.chat.client.servers import Servers
from components.chat.client.settings import HIGHEST_MAX_TOKENS, LOWEST_MAX_TOKENS, Settings
from components.chat.storage.comparisons import NONE_IS_GOOD, TIE, Comparisons
from components.chat.ui import scripts
from components.chat.ui.gradio_workarounds.components import accept_any_choice
from components.chat.ui.gradio_workarounds.markdown_script import MATHS
from components.chat.ui.gradio_workarounds.show_errors import show_errors
from components.chat.ui.handlers import QUICK, Updates, in_thread, user_of


class CompareView:
    """Draws the comparison within a ``gr.Blocks``, and handles its events."""

    def __init__(self, servers: Servers, comparisons: Comparisons, running: RunningComparisons) -> None:
        self._servers = servers
        self._comparisons = comparisons
        self._running = running
        self._draw_prompt()
        self._draw_settings()
        with gr.Row():
            self.start = gr.Button("Compare", elem_id="compare", variant="primary", min_width=90)
            self.stop = gr.Button("Stop", elem_id="compare-stop", variant="stop", min_width=90, interactive=False)
        self.status = gr.Markdown(elem_id="compare-status")
        self._draw_columns()
        self.ballot = accept_any_choice(gr.Radio([], label="Which answer is best?", elem_id="ballot", visible=False))

    def _draw_prompt(self) -> None:
        # The id of the comparison that the window shows.
        self.comparison = gr.Textbox("", visible="hidden")
        # The page's script presses it to draw a snapshot.
        self.draw_comparison = gr.Button(visible="hidden", elem_id="draw-comparisons")
        with gr.Row():
            self.models = accept_any_choice(gr.Dropdown(
                [], label=f"Models (2 to {len(LETTERS)})", elem_id="compare-models", multiselect=True,
                max_choices=len(LETTERS), scale=4,
            ))  # fmt: skip
            self.blind = gr.Checkbox(
                value=True, label="Blind: hide who is who until I vote", elem_id="blind", scale=2, min_width=240
            )
        self.prompt = gr.Textbox(label="Prompt (Shift+Enter compares)", elem_id="compare-prompt", lines=2, max_lines=8)

    def _draw_settings(self) -> None:
        with gr.Accordion("Settings", open=False):
            self.system = gr.Textbox("", label="System prompt", elem_id="compare-system", lines=2)
            self.own = gr.Checkbox(value=True, label="Each model answers by its own defaults", elem_id="compare-own")
            self.temperature = gr.Slider(
                0.0, 2.0, Settings.temperature, step=0.05, label="Temperature of all", visible=False
            )
            self.max_tokens = gr.Slider(
                LOWEST_MAX_TOKENS, HIGHEST_MAX_TOKENS, Settings.max_tokens, step=16,
                label="Length limit of all (tokens)", visible=False,
            )  # fmt: skip

    def _draw_columns(self) -> None:
        self.columns, self.headings, self.texts = [], [], []
        with gr.Row(elem_id="columns"):
            for letter in LETTERS:
                with gr.Column(visible=False, min_width=260) as column:
                    self.headings.append(
                        gr.Markdown(elem_id=f"head-{letter}", elem_classes="figures", line_breaks=True)
                    )
                    self.texts.append(gr.Markdown(
                        elem_id=f"answer-{letter}", elem_classes="answer", line_breaks=True, latex_delimiters=MATHS,
                    ))  # fmt: skip
                self.columns.append(column)

    def connect(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect the events; a comparison that runs is followed once the tab is opened."""
        report = partial(show_errors, self.status)
        settings = [self.temperature, self.max_tokens]
        self.own.input(lambda own: [gr.update(visible=not own)] * 2, [self.own], settings, **QUICK)
        chosen = [self.models, self.prompt, self.system, self.own, *settings, self.blind]
        started = [self.status, self.ballot, self.comparison]
        start = gr.on([self.start.click, self.prompt.submit], report(self._compare), chosen, started, **QUICK)
        start.then(None, [self.comparison], None, js=scripts.FOLLOW_COMPARISON)
        drawn = [
            self.status, self.ballot, self.comparison, self.stop, *self.columns, *self.headings, *self.texts,
        ]  # fmt: skip
        self.draw_comparison.click(None, None, drawn, js=scripts.DRAW_COMPARISON, trigger_mode="multiple")
        self.stop.click(self._stop, [self.comparison], None, **QUICK)
        voted = [self.status, self.ballot, *self.headings]
        ballot = [self.comparison, self.ballot]
        vote = self.ballot.input(report(self._vote), ballot, voted, preprocess=False, **QUICK)
        vote.then(None, None, None, js=scripts.FORGET_COMPARISON)
        page.load(self._arrive, None, [self.models], **QUICK)
        for event in (page.load, tab.select):
            event(None, None, None, js=scripts.RESUME_COMPARISON)

    async def _arrive(self) -> Any:
        labels = [model.label for model in await self._servers.models()]
        return gr.update(choices=labels, value=labels[: len(LETTERS)])

    async def _stop(self, comparison: str, request: gr.Request) -> None:
        self._running.stop(user_of(request), comparison)

    async def _compare(
        self, labels: list[str], prompt: str, system: str, own: bool, temperature: float, max_tokens: float,
        blind: bool, request: gr.Request,
    ) -> Updates:  # fmt: skip
        models = [model for label in labels if (model := self._servers.known(label)) is not None]
        if len(models) < 2:
            return {self.status: f"Choose at least two models. {self._servers.missing}".strip()}
        if not prompt.strip():
            return {self.status: "Write a prompt first."}
        settings = None if own else Settings(temperature, int(max_tokens))
        comparison = self._running.start(user_of(request), models, prompt, system, settings, blind=blind)
        return {
            self.status: "Asking…",
            self.comparison: comparison,
            self.ballot: gr.update(value=None, visible=False, interactive=True),
        }

    async def _vote(self, comparison: str, vote: str, request: gr.Request) -> Updates:
        answers = await in_thread(self._comparisons.vote, user_of(request), comparison, vote)
        headings = {
            component: heading(letter, label, completion)
            for component, (letter, (label, completion)) in zip(self.headings, answers.items(), strict=False)
        }
        won = answers[vote][0] if vote in answers else {TIE: "all the same", NONE_IS_GOOD: "none of them"}[vote]
        return {**headings, self.status: f"Your vote: {won}. Thank you.", self.ballot: gr.update(interactive=False)}
