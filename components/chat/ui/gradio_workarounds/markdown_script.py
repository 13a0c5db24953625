"""Text shown as it was written: in Gradio's Markdown, HTML becomes text, a picture a link, and code is never maths.

Gradio 6.31 removes tags from a text, or the text behind them, and none of its settings shows them
(gradio-app/gradio#7198); text that is escaped beforehand is copied and edited in its escaped form (#10438). So the
few lines of its script that configure the Markdown parser are changed as the script is served.
"""

from __future__ import annotations

import re
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Response

from components.errors import DataError

ASSETS = Path(gr.__file__).parent / "templates/frontend/assets"
# A single ``$`` means money.
MATHS = [
    {"left": r"\(", "right": r"\)", "display": False},
    {"left": r"\[", "right": r"\]", "display": True},
    {"left": "$$", "right": "$$", "display": True},
]
# Options of the library marked, instead of the extensions for diagrams and maths: without a rule for HTML, "<" and
# entities are ordinary text. A picture is a link, because it would be fetched from any host that an answer names.
RULES = """{
  tokenizer: {
    html() {}, tag() {},
    inlineText(source) {
      const found = this.rules.inline.text.exec(source);
      const escape = (character) => `&#${character.charCodeAt()};`;
      if (found) return {type: "text", raw: found[0], text: found[0].replace(/[&<>"']/g, escape)};
    },
  },
  renderer: { image(address, title, text) { return this.link(address, title, text || address); } },
}"""
# Code in a fence or between backticks, complete or not yet; maths is searched for only outside of it.
CODE = r"(?:^|\\n) *(`{3,}|~{3,})[^]*?(?:\\n *\\1|$)|(`+)(?!`)[^]*?[^`]\\2(?!`)"
PATCHES = [
    (r"(\w+)\.use\(\{extensions:\[\w+,\w+\]\}\)", lambda found: f"{found[1]}.use({RULES})"),
    (
        r"(\w+)=RegExp\(`(\$\{\w+\}\(\[\\\\s\\\\S\]\+\?\)\$\{\w+\})`,`g`\);(\w+)=\3\.replace\(\1,(\w+)=>"
        r"(\(\w+\.push\(\4\),`%%%LATEX_BLOCK_\$\{\w+\.length-1\}%%%`\))\)",
        lambda found: (
            f"{found[1]}=RegExp(`{_in_template(CODE)}|(?<maths>{found[2]})`,`g`);"
            f"{found[3]}={found[3]}.replace({found[1]},({found[4]},...found)=>found.at(-1).maths?{found[5]}:{found[4]})"
        ),
    ),
]


def serve_patched_script(app: FastAPI) -> None:
    """Serve the changed script under its own address, which Gradio then does not serve.

    Raises:
        DataError: the installed Gradio has another script, in which the lines were not found.
    """
    name, script = _patched_script()
    headers = {"Cache-Control": "no-cache"}
    app.add_api_route(f"/assets/{name}", lambda: Response(script, media_type="text/javascript", headers=headers))


def _patched_script() -> tuple[str, str]:
    """File name and text of the script."""
    for path in ASSETS.glob("markdown-code-*.js"):
        script, counts = path.read_text(encoding="utf-8"), []
        for pattern, patch in PATCHES:
            script, count = re.subn(pattern, patch, script)
            counts.append(count)
        if counts == [1] * len(PATCHES):
            return path.name, script
    raise DataError(f"Gradio {gr.__version__} draws text in another way; install the version that pyproject.toml names")


def _in_template(pattern: str) -> str:
    return pattern.replace("`", r"\`")
