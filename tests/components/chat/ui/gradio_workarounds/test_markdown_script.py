"""Gradio's script with the Markdown parser changed."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from components.chat.ui.gradio_workarounds import markdown_script
from components.chat.ui.gradio_workarounds.markdown_script import ASSETS, CODE, serve_patched_script
from components.errors import DataError


def test_the_script_of_this_gradio_is_served_with_both_changes():
    app = FastAPI()
    serve_patched_script(app)
    (path,) = [route.path for route in app.routes if route.path.startswith("/assets/")]
    response = TestClient(app).get(path)
    original = (ASSETS / path.rpartition("/")[2]).read_text(encoding="utf-8")
    assert response.headers["content-type"].startswith("text/javascript")
    assert response.text != original
    assert "html() {}, tag() {}" in response.text
    assert "(?<maths>" in response.text
    assert len(response.text) < len(original) + 2000, "only these lines are new"


def test_another_gradios_script_is_refused_with_the_version(monkeypatch, tmp_path):
    (tmp_path / "markdown-code-1.js").write_text("another script")
    monkeypatch.setattr(markdown_script, "ASSETS", tmp_path)
    with pytest.raises(DataError, match=r"Gradio \d+\.\d+.*install the version that pyproject.toml names"):
        serve_patched_script(FastAPI())


@pytest.mark.parametrize(
    ("text", "code"),
    [("a `b` c", "`b`"), ("a ``b`c`` d", "``b`c``"), ("```\n$$\n```", "```\n$$\n```"), ("```\nunfinished", None),
     ("~~~ sh\nx\n~~~", "~~~ sh\nx\n~~~"), ("no code", "")],
)  # fmt: skip
def test_code_is_found_in_fences_and_backticks_complete_or_not(text, code):
    # The pattern is JavaScript's, within a template string: a doubled backslash is one, and [^] is any character.
    pattern = CODE.replace("\\\\", "\\").replace("[^]", "[\\s\\S]")
    found = re.search(pattern, text)
    assert (found[0] if found else "") == (text if code is None else code)
