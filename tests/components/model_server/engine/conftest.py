"""What the engine's tests share."""

from __future__ import annotations

import pytest

from components.model_server.engine import batching


@pytest.fixture
def without_a_vocabulary(monkeypatch):
    """The echo model has none for llguidance to read."""
    monkeypatch.setattr(batching, "Grammars", lambda vocab: None)
