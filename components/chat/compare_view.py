"""One prompt, several models side by side: who is who can stay hidden until the vote."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from components.chat.answers import FEWEST_TOKENS, MOST_TOKENS, Answer, Message, Settings, stream_answer
from components.chat.comparisons import NONE, TIE, Comparisons
from components.chat.identity import session_of, user_of
from components.chat.look import any_choice, table
from components.chat.running import Answering, Place, Running
from components.chat.servers import Model, Servers
from components.chat.threads import in_thread, telling

LETTERS = "ABCD"
FAILED = "This model cannot answer now."
HIDDEN = "names and figures are told after the vote"
Updates = dict[Any, Any]


@dataclass
class Column:
    """One model's side of a comparison."""

    model: Model
    answering: Answering | None = None

    @property
    def runs(self) -> bool:
        """True while more may come."""
        return self.answering is not None and not self.answering.done

    @property
    def answer(self) -> Answer:
        """What has come."""
        return self.answering.latest if self.answering is not None else Answer()

    def text(self, *, blind: bool) -> str:
        """What the column shows; the words of an error may name the server."""
        error = self.answering.error if self.answering is not None else ""
        error = FAILED if blind and error else error
        return "\n\n".join(filter(None, (self.answer.text, error and f"⚠ {error}"))) or "…"


def _told(label: str, answer: Answer) -> str:
    """Who it is, and how fast."""
    return f"**{label}** · {answer.in_words()}"


class CompareView:
    """Draws the comparison and answers its events."""

    def __init__(self, servers: Servers, comparisons: Comparisons, running: Running) -> None:
        self._servers = servers
        self._comparisons = comparisons
        self._running = running

    def draw(self, page: gr.Blocks) -> None:
        """Place the components, inside a gr.Blocks."""
        self.comparison = gr.State("")
        with gr.Row():
            self.models = any_choice(gr.Dropdown(
                [], label=f"Models (2 to {len(LETTERS)})", elem_id="compare-models", multiselect=True,
                max_choices=len(LETTERS), scale=4,
            ))  # fmt: skip
            self.blind = gr.Checkbox(
                value=True, label="Blind: hide who is who until I vote", elem_id="blind", scale=2, min_width=240
            )
        self.prompt = gr.Textbox(label="Prompt", elem_id="compare-prompt", lines=2, max_lines=8)
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
                    self.heads.append(gr.Markdown(elem_id=f"head-{letter}", elem_classes="figures"))
                    self.texts.append(gr.Markdown(elem_id=f"answer-{letter}", elem_classes="answer"))
                self.columns.append(column)
        self.ballot = any_choice(gr.Radio([], label="Which answer is best?", elem_id="ballot", visible=False))
        self._connect(page)

    def _connect(self, page: gr.Blocks) -> None:
        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        settings = [self.temperature, self.max_tokens]
        self.own.input(lambda own: [gr.update(visible=not own)] * 2, [self.own], settings, queue=False, **hidden)
        chosen = [self.models, self.prompt, self.system, self.own, *settings, self.blind]
        drawn = [self.status, self.ballot, self.comparison, self.stop, *self.columns, *self.heads, *self.texts]
        gr.on([self.start.click, self.prompt.submit], self._compare, chosen, drawn, concurrency_limit=None, **hidden)
        self.stop.click(self._stop, None, None, queue=False, **hidden)
        voted, vote = [self.status, self.ballot, *self.heads], telling(self.status, self._vote)
        self.ballot.input(vote, [self.comparison, self.ballot], voted, queue=False, **hidden)
        page.load(self._arrive, None, [self.models], queue=False, **hidden)

    async def _arrive(self) -> Any:
        labels = [model.label for model in await self._servers.models()]
        return gr.update(choices=labels, value=labels[: len(LETTERS)])

    async def _stop(self, request: gr.Request) -> None:
        self._running.end(_place(request), "stop")

    async def _compare(
        self, labels: list[str], prompt: str, system: str, own: bool, temperature: float, max_tokens: float,
        blind: bool, request: gr.Request,
    ) -> AsyncIterator[Updates]:  # fmt: skip
        models = [model for label in labels if (model := self._servers.known(label)) is not None]
        if len(models) < 2 or not prompt.strip():
            few = f"Choose at least two models. {self._servers.silent}".strip()
            yield {self.status: few if len(models) < 2 else "Write a prompt first."}
            return
        user, settings = user_of(request), None if own else Settings(temperature, int(max_tokens))
        if blind:
            random.shuffle(models)
        columns = dict(zip(LETTERS, map(Column, models), strict=False))
        yield self._begun(columns, blind=blind)
        messages = _messages(prompt, system)
        for column in columns.values():
            asked = settings or Settings.of(column.model.generation)
            answers = stream_answer(column.model.server, column.model.id, messages, asked)
            column.answering = self._running.start(_place(request), answers)
        try:
            while any(column.runs for column in columns.values()):
                await asyncio.sleep(self._running.seconds_between)
                yield self._texts(columns, blind=blind)
        finally:
            self._running.end(_place(request), "leave")  # the page was closed
        told = {letter: (column.model.label, column.answer) for letter, column in columns.items()}
        keep = partial(self._comparisons.keep, blind=blind)
        kept = await in_thread(keep, user, prompt, system, told)
        yield {**self._texts(columns, blind=blind), **self._to_vote(columns, kept)}

    def _begun(self, columns: dict[str, Column], *, blind: bool) -> Updates:
        shown = {self.columns[i]: gr.update(visible=letter in columns) for i, letter in enumerate(LETTERS)}
        told = {
            self.status: f"Asking {len(columns)} models…",
            self.ballot: gr.update(visible=False),
            self.comparison: "",
        }
        return {**shown, **told, self.stop: gr.update(interactive=True), **self._texts(columns, blind=blind)}

    def _texts(self, columns: dict[str, Column], *, blind: bool) -> Updates:
        updates: Updates = {}
        for head, text, (letter, column) in zip(self.heads, self.texts, columns.items(), strict=False):
            who = _told(column.model.label, column.answer)
            updates[head] = f"**{letter}**" if blind else f"**{letter}** · {who}"
            updates[text] = column.text(blind=blind)
        return updates

    def _to_vote(self, columns: dict[str, Column], kept: str) -> Updates:
        choices = [(letter, letter) for letter in columns] + [("All the same", TIE), ("None is good", NONE)]
        told = f"Vote: {HIDDEN}." if len(columns) > 1 else ""
        return {
            self.ballot: gr.update(choices=choices, value=None, visible=True, interactive=True), self.comparison: kept,
            self.status: told, self.stop: gr.update(interactive=False),
        }  # fmt: skip

    async def _vote(self, comparison: str, vote: str, request: gr.Request) -> Updates:
        answers = await in_thread(self._comparisons.vote, user_of(request), comparison, vote)
        heads = {
            head: f"**{letter}** · {_told(label, answer)}"
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


def _place(request: gr.Request) -> Place:
    return "compare", user_of(request), session_of(request)


def _messages(prompt: str, system: str) -> list[Message]:
    messages: list[Message] = [{"role": "user", "content": prompt}]
    if system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"
