"""How a model calls tools is derived from its chat template."""

from __future__ import annotations

import pytest

from components.model_server.tool_calls.format import CallFormat
from tests.components.model_server.tool_calls.templates import (
    TEMPLATES,
    Rendering,
    form,
)


@pytest.mark.parametrize(
    ("name", "head", "middle"),
    [
        ("qwen2_5", '<tool_call>\n{"name": "', '", "arguments": '),
        ("qwen3", '<tool_call>\n{"name": "', '", "arguments": '),
        ("llama3_1", '{"name": "', '", "parameters": '),
        ("llama3_2", '{"name": "', '", "parameters": '),
        ("qwen3_5_think", "<tool_call>\n<function=", ">\n"),
        ("glm4moe", "<tool_call>", "\n"),
    ],
)
def test_a_templates_way_to_call_is_learnt_from_it(name, head, middle):
    found = form(name)
    assert (found.head, found.middle) == (head, middle)
    # Llama takes one call at a time.
    assert (found.between is None) == name.startswith("llama")


@pytest.mark.parametrize("name", ["gemma", "phi3", "llama3", "gemma4", "muse_glimmer"])
def test_a_template_without_a_place_for_tools_or_with_another_form_has_no_way_to_call(name):
    assert CallFormat.from_template(Rendering((TEMPLATES / f"{name}.jinja").read_text())) is None  # type: ignore[arg-type]
