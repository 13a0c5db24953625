"""A model in whose vocabulary the tags are tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.export_gguf.convert import convert
from tests.bases import Family, _qwen, of_trl


@pytest.fixture(scope="session")
def qwen(tmp_path_factory) -> Path:
    """A model in whose vocabulary the tags of reasoning and calls are tokens, as in Qwen3's."""
    folder = tmp_path_factory.mktemp("qwen")
    tags = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    family = Family("Qwen3", lambda: _qwen(*tags), lambda: of_trl("qwen3"), (("head_dim", 32),))
    family.make(folder / "base")
    convert(folder / "base", folder / "qwen.gguf")
    return folder / "qwen.gguf"
