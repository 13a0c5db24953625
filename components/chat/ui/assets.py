"""The page's style sheet and theme, with fonts of the browser's own machine, and HTML that it shows."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import gradio as gr

FONTS = ["system-ui", "sans-serif"]
CSS = """
footer { display: none !important; }
#status, .figures { min-height: 1.6rem; opacity: .8; font-size: .9rem; }
#chat .message-content *, .answer * { unicode-bidi: plaintext; text-align: start; overflow-wrap: anywhere; }
#chat .bot-row .message-content::after { display: block; opacity: .65; font-size: .8rem; margin-top: .4rem; }
#chat pre, #chat table, .answer pre, .answer table { max-width: 100%; overflow-x: auto; }
/* With "hidden" the container would scroll by itself, and the sticky row below would not stay in sight. */
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
    """Gradio's soft theme, with fonts that are installed on the browser's machine."""
    return gr.themes.Soft(font=FONTS, font_mono=["ui-monospace", "monospace"])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; all texts in it are escaped."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def as_json(value: object) -> str:
    """JSON, which is also a JavaScript expression."""
    return json.dumps(value, ensure_ascii=False, indent=2)
