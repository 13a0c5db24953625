"""How the page looks: colours, fonts of the browser's own machine, and what stands below its answers."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.chat.storage.conversations import Turn

FONTS = ["system-ui", "sans-serif"]
CSS = """
footer { display: none !important; }
#status, .figures { min-height: 1.6rem; opacity: .8; font-size: .9rem; }
#chat .message-content *, .answer * { unicode-bidi: plaintext; text-align: start; overflow-wrap: anywhere; }
#chat .bot-row .message-content::after { display: block; opacity: .65; font-size: .8rem; margin-top: .4rem; }
#chat pre, #chat table, .answer pre, .answer table { max-width: 100%; overflow-x: auto; }
/* What is hidden would be scrolled by itself, and nothing in it would stay in sight. */
.gradio-container { overflow: clip !important; }
#asking {
  position: sticky; bottom: 0; z-index: 5; padding: .3rem 0; flex-wrap: nowrap; background: var(--body-background-fill);
}
#asking > * { min-width: 0 !important; }
#asking > button { min-width: 4.2rem !important; }
#conversations .wrap { flex-direction: column; flex-wrap: nowrap; max-height: 50vh; overflow-y: auto; }
.wide { overflow-x: auto; max-width: calc(100vw - 2.5rem); }
button.secondary, button.stop, .submit-button, textarea, input:not([role=listbox]) {
  border: 1px solid var(--border-color-primary) !important;
}
#conversations label { width: 100%; }
#conversations label span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.block.answer { border: 1px solid var(--border-color-primary); border-radius: .6rem; padding: .8rem; min-height: 6rem; }
*:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 1px; }
#chat { height: max(9rem, calc(100dvh - 22rem)) !important; }
@media (max-width: 640px) {
  .gradio-container { padding: .4rem !important; }
  #asking { gap: .4rem; }
  #asking > button { flex: 0 0 auto !important; min-width: 0 !important; padding: .6rem .5rem; font-size: .85rem; }
}
"""


def theme() -> gr.themes.Base:
    """Colours and fonts; only fonts that the browser's machine has."""
    return gr.themes.Soft(font=FONTS, font_mono=["ui-monospace", "monospace"])


def any_choice(component: Any) -> Any:
    """The component, which takes what a page sends that was open before this process began and knew its choices.

    Whatever is chosen is looked up by its user before it is used.
    """
    component.preprocess = lambda payload: payload
    return component


def sheet(turns: Sequence[Turn], *, running: bool = False, asks_why: bool = False) -> str:
    """A style sheet for a conversation: each answer's model and figures below it, and the buttons that make sense now;
    ``asks_why`` the user thinks as they do of an answer.

    The figures are not a part of the messages, for the button that copies an answer would copy them too. The buttons
    are not switched by Gradio, which makes a component anew for that: with many users, each would wait for all others.
    """
    answers = [turn for turn in turns if turn.role == "assistant"]
    lines = [
        f"#chat :nth-child({number} of .bot-row) .message-content::after {{ content: {_quoted(_told(turn))}; }}"
        for number, turn in enumerate(answers, 1)
        if turn.answer is not None
    ]
    last = turns[-1].answer if turns else None
    if running or last is None or not last.can_go_on:
        lines.append("#go-on { display: none; }")
    if not running:
        lines.append("#stop { opacity: .4; }")
    if not asks_why:
        lines.append("#why { display: none !important; }")
    state = "running" if running else "idle"
    return f'<style>{" ".join(lines)}</style><span id="state" data-state="{state}"></span>'


def _told(turn: Turn) -> str:
    assert turn.answer is not None
    return f"{turn.model} · {turn.answer.in_words()}" if turn.answer.n_tokens else turn.model


def _quoted(text: str) -> str:
    """A string of CSS in which every character that could end it, or the sheet, is written by its number."""
    return '"' + "".join(char if char.isalnum() or char in " .,/()-_" else f"\\{ord(char):x} " for char in text) + '"'


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in HTML, with everything in it escaped."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def as_json(value: object) -> str:
    """JSON, also as a script writes it."""
    return json.dumps(value, ensure_ascii=False, indent=2)
