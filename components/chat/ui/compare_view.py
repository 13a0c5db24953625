"""One prompt, several models side by side: who is who can stay hidden until the vote."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from components.chat.client.comparing import LETTERS, Comparing, told
from components.chat.client.completions import FEWEST_TOKENS, MOST_TOKENS, Settings
from components.chat.client.servers import Servers
from components.chat.storage.comparisons import NONE, TIE, Comparisons
from components.chat.ui import scripts
from components.chat.ui.assets import any_choice, table
from components.chat.ui.markdown_patch import MATHS
from components.chat.ui.show_errors import in_thread, telling
from components.chat.web.identity import user_of

Updates = dict[Any, Any]


class CompareView:
    """Draws the comparison and answers its events."""

    def __init__(self, servers: Servers, comparisons: Comparisons, comparing: Comparing) -> None:
        self._servers = servers
        self._comparisons = comparisons
        self._comparing = comparing

    def draw(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Place the components, inside a gr.Blocks; what is on the tab is drawn once the tab is opened."""
        self.comparison = gr.Textbox("", visible="hidden")
        self.drawn = gr.Button(visible="hidden", elem_id="drawn-comparisons")
        with gr.Row():
            self.models = any_choice(gr.Dropdown(
                [], label=f"Models (2 to {len(LETTERS)})", elem_id="compare-models", multiselect=True,
                max_choices=len(LETTERS), scale=4,
            ))  # fmt: skip
            self.blind = gr.Checkbox(
                value=True, label="Blind: hide who is who until I vote", elem_id="blind", scale=2, min_width=240
            )
        self.prompt = gr.Textbox(label="Prompt (Shift+Enter compares)", elem_id="compare-prompt", lines=2, max_lines=8)
        with gr.Accordion("Settings", open=False):
            self.system = gr.Textbox("", label="System prompt", elem_id="compare-system", lines=2)
            self.own = gr.Checkbox(value=True, label="Each model answers by its own defaults", elem_id="compare-own")
            self.temperature = gr.Slider(
                0.0, 2.0, Settings.temperature, step=0.05, label="Temperature of all", visible=False
            )
            self.max_tokens = gr.Slider(
                FEWEST_TOKENS,
                MOST_TOKENS,
                Settings.max_tokens,
                step=16,
                label="Length limit of all (tokens)",
                visible=False,
            )
        with gr.Row():
            self.start = gr.Button("Compare", elem_id="compare", variant="primary", min_width=90)
            self.stop = gr.Button("Stop", elem_id="compare-stop", variant="stop", min_width=90, interactive=False)
        self.status = gr.Markdown(elem_id="compare-status")
        self.columns, self.heads, self.texts = [], [], []
        with gr.Row(elem_id="columns"):
            for letter in LETTERS:
                with gr.Column(visible=False, min_width=260) as column:
                    self.heads.append(gr.Markdown(elem_id=f"head-{letter}", elem_classes="figures", line_breaks=True))
                    self.texts.append(
                        gr.Markdown(
                            elem_id=f"answer-{letter}",
                            elem_classes="answer",
                            line_breaks=True,
                            latex_delimiters=MATHS,
                        )
                    )
                self.columns.append(column)
        self.ballot = any_choice(gr.Radio([], label="Which answer is best?", elem_id="ballot", visible=False))
        self._connect(page, tab)

    def _connect(self, page: gr.Blocks, tab: gr.Tab) -> None:
        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        settings = [self.temperature, self.max_tokens]
        self.own.input(lambda own: [gr.update(visible=not own)] * 2, [self.own], settings, queue=False, **hidden)
        chosen = [self.models, self.prompt, self.system, self.own, *settings, self.blind]
        begun = [self.status, self.ballot, self.comparison]
        told = partial(telling, self.status)
        start = gr.on([self.start.click, self.prompt.submit], told(self._compare), chosen, begun, queue=False, **hidden)
        start.then(None, [self.comparison], None, js=scripts.FOLLOW_COMPARISON)
        drawn = [self.status, self.ballot, self.comparison, self.stop, *self.columns, *self.heads, *self.texts]
        self.drawn.click(None, None, drawn, js=scripts.DRAW_COMPARISON, trigger_mode="multiple")
        self.stop.click(self._stop, [self.comparison], None, queue=False, **hidden)
        voted, vote = [self.status, self.ballot, *self.heads], told(self._vote)
        done = self.ballot.input(vote, [self.comparison, self.ballot], voted, queue=False, preprocess=False, **hidden)
        done.then(None, None, None, js=scripts.FORGET_COMPARISON)
        page.load(self._arrive, None, [self.models], queue=False, **hidden)
        for event in (page.load, tab.select):
            event(None, None, None, js=scripts.TAKE_UP_COMPARISON)

    async def _arrive(self) -> Any:
        labels = [model.label for model in await self._servers.models()]
        return gr.update(choices=labels, value=labels[: len(LETTERS)])

    async def _stop(self, comparison: str, request: gr.Request) -> None:
        self._comparing.stop(user_of(request), comparison)

    async def _compare(
        self, labels: list[str], prompt: str, system: str, own: bool, temperature: float, max_tokens: float,
        blind: bool, request: gr.Request,
    ) -> Updates:  # fmt: skip
        models = [model for label in labels if (model := self._servers.known(label)) is not None]
        if len(models) < 2:
            return {self.status: f"Choose at least two models. {self._servers.silent}".strip()}
        if not prompt.strip():
            return {self.status: "Write a prompt first."}
        settings = None if own else Settings(temperature, int(max_tokens))
        comparison = self._comparing.begin(user_of(request), models, prompt, system, settings, blind=blind)
        return {
            self.status: "Asking…",
            self.comparison: comparison,
            self.ballot: gr.update(value=None, visible=False, interactive=True),
        }

    async def _vote(self, comparison: str, vote: str, request: gr.Request) -> Updates:
        answers = await in_thread(self._comparisons.vote, user_of(request), comparison, vote)
        heads = {
            head: told(letter, label, answer)
            for head, (letter, (label, answer)) in zip(self.heads, answers.items(), strict=False)
        }
        won = answers[vote][0] if vote in answers else {TIE: "all the same", NONE: "none of them"}[vote]
        return {**heads, self.status: f"Your vote: {won}. Thank you.", self.ballot: gr.update(interactive=False)}


class VotesView:
    """All votes and seconds by model, summed over all users."""

    def __init__(self, comparisons: Comparisons) -> None:
        self._comparisons = comparisons

    def draw(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Place the components, inside a gr.Blocks; they are new each time that the tab is opened."""
        gr.Markdown("Votes of all comparisons. Seconds and rates are medians over all answers compared.")
        summary = gr.HTML(elem_id="votes")
        gr.on([tab.select, page.load], self._summary, None, [summary], queue=False, api_visibility="private")

    def _summary(self) -> str:
        rows = [
            (
                model, str(one.wins), str(one.losses), str(one.ties), _percent(one.share),
                _number(one.middle("first_token_seconds"), "s"), _number(one.middle("seconds"), "s"),
                _number(one.middle("tokens_per_second"), "tokens/s"),
            )
            for model, one in self._comparisons.standings().items()
        ]  # fmt: skip
        if not rows:
            return "<p>No comparison yet.</p>"
        return table(("Model", "Won", "Lost", "Same", "Share", "First token", "Whole answer", "Speed"), rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"
