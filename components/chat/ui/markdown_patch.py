"""Text shown as it was written: in Gradio's Markdown, HTML is text, a picture is a link, and code is no maths.

Gradio takes tags out of a text, or the text behind them; none of its settings shows them as they stand, and text that
is escaped beforehand is copied and edited escaped. So the few lines in which its script says what Markdown has are
changed as it is served.
"""

from __future__ import annotations

import re
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Response

from components.errors import DataError

ASSETS = Path(gr.__file__).parent / "templates/frontend/assets"
# ``$`` alone is money.
MATHS = [
    {"left": r"\(", "right": r"\)", "display": False},
    {"left": r"\[", "right": r"\]", "display": True},
    {"left": "$$", "right": "$$", "display": True},
]
# In marked's words, in the place of extensions for diagrams and maths: no rule for HTML, so "<" is text like any other,
# as an entity is; a picture would be fetched from wherever an answer says.
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
# What stands in a fence or between backticks, ended or not yet; maths is looked for behind it.
CODE = r"(?:^|\\n) *(`{3,}|~{3,})[^]*?(?:\\n *\\1|$)|(`+)(?!`)[^]*?[^`]\\2(?!`)"
PATCHES = [
    (r"(\w+)\.use\(\{extensions:\[\w+,\w+\]\}\)", lambda found: f"{found[1]}.use({RULES})"),
    (
        r"(\w+)=RegExp\(`(\$\{\w+\}\(\[\\\\s\\\\S\]\+\?\)\$\{\w+\})`,`g`\);(\w+)=\3\.replace\(\1,(\w+)=>"
        r"(\(\w+\.push\(\4\),`%%%LATEX_BLOCK_\$\{\w+\.length-1\}%%%`\))\)",
        lambda found: (
            f"{found[1]}=RegExp(`{_in_a_template(CODE)}|(?<maths>{found[2]})`,`g`);"
            f"{found[3]}={found[3]}.replace({found[1]},({found[4]},...found)=>found.at(-1).maths?{found[5]}:{found[4]})"
        ),
    ),
]


def add_script(app: FastAPI) -> None:
    """Serve the script under its own address, before Gradio does.

    Raises:
        DataError: this Gradio's script is another one.
    """
    name, script = _script()
    headers = {"Cache-Control": "no-cache"}
    app.add_api_route(f"/assets/{name}", lambda: Response(script, media_type="text/javascript", headers=headers))


def _script() -> tuple[str, str]:
    """Name and text."""
    for path in ASSETS.glob("markdown-code-*.js"):
        script, counts = path.read_text(encoding="utf-8"), []
        for pattern, patch in PATCHES:
            script, count = re.subn(pattern, patch, script)
            counts.append(count)
        if counts == [1] * len(PATCHES):
            return path.name, script
    raise DataError(f"Gradio {gr.__version__} draws text in another way; install the version that pyproject.toml names")


def _in_a_template(pattern: str) -> str:
    return pattern.replace("`", r"\`")
