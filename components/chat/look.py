"""How the page looks: colours, fonts of the browser's own machine, and the few lines of script that it needs."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.chat.conversations import Turn

FONTS = ["system-ui", "sans-serif"]
CSS = """
footer { display: none !important; }
#status, .figures { min-height: 1.6rem; opacity: .8; font-size: .9rem; }
#chat .message-content *, .answer * { unicode-bidi: plaintext; text-align: start; overflow-wrap: anywhere; }
#chat .bot-row .message-content::after { display: block; opacity: .65; font-size: .8rem; margin-top: .4rem; }
#chat pre, #chat table, .answer pre, .answer table { max-width: 100%; overflow-x: auto; }
#conversations .wrap { flex-direction: column; flex-wrap: nowrap; max-height: 50vh; overflow-y: auto; }
.wide { overflow-x: auto; max-width: calc(100vw - 2.5rem); }
button.secondary, button.stop, .submit-button, textarea, input:not([role=listbox]) {
  border: 1px solid var(--border-color-primary) !important;
}
#conversations label { width: 100%; }
#conversations label span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.block.answer { border: 1px solid var(--border-color-primary); border-radius: .6rem; padding: .8rem; min-height: 6rem; }
*:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 1px; }
@media (max-width: 640px) {
  .gradio-container { padding: .4rem !important; }
  #chat { height: 55vh !important; }
}
"""
# Escape stops the answer, from wherever the keyboard is. On a phone the list of conversations covers the page: it is
# closed at first, and again once something in it was chosen.
SCRIPT = """
() => {
  const close = () => {
    if (window.innerWidth < 768) document.querySelector(".sidebar.open .toggle-button")?.click();
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelector("#stop")?.click();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("#new, #conversations label")) close();
  });
  close();
}
"""
# Puts what has come of an answer behind the turns before it; not where the conversation is another one by now. The
# server sends each new piece alone: Gradio would take the whole conversation apart for each, and for every user.
DRAW = """
(piece, conversation, chat, status, sheet) => {
  const more = piece ? chat.length - piece.turns : -1;
  const here = piece && piece.conversation === conversation;
  if (!here || more < 0 || more > 1 || (more && chat.at(-1).role === "user")) return [chat, status, sheet];
  const answer = {role: "assistant", metadata: null, content: [{type: "text", text: piece.text}], options: null};
  return [[...chat.slice(0, piece.turns), ...(piece.text ? [answer] : [])], piece.words, piece.sheet];
}
"""
# Examples and settings of the model that is chosen now. A setting that stands where the page has put it (``given``)
# follows; one that was moved by hand stays, and so do all where nothing is known of the model. What does not change is
# not written either: it may be moved in this very moment.
FOLLOW = """
(model, models, given, ...settings) => {
  const own = JSON.parse(models)[model], same = {__type__: "update"};
  if (!own) return [same, given, ...settings.map(() => same)];
  const put = settings.map((value, number) => value === given[number] ? own.settings[number] : given[number]);
  const moved = settings.map((value, number) => put[number] === given[number] ? same : put[number]);
  return [{...same, examples: own.examples}, put, ...moved];
}
"""
# The text goes to the browser's own disk; no file of it is left on the server. Its name is taken away, so that nothing
# is saved where the next export fails.
SAVE = """
(name, text) => {
  if (!name) return [""];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "text/plain;charset=utf-8"}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
  return [""];
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


def ask_whether(question: str) -> str:
    """A script that asks before it sends the conversation's name; none is sent where the user refuses."""
    return f"(conversation) => [confirm({as_json(question)}) ? conversation : '']"


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


# A conversation in which nothing was said: its turns, their marks, the status, the sheet and the name.
EMPTY = f"""
() => [{{__type__: "update", value: [], feedback_value: []}}, "", {as_json(sheet(()))}, ""]
"""
