"""Which errors mean a full context."""

from __future__ import annotations

import pytest

from components.chat.client.errors import CONTEXT_FULL, ContextFullError


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ('{"error": {"code": "context_length_exceeded"}}', True),
        ("This model's maximum context length is 2048 tokens", True),
        ("the request exceeds the available context size", True),
        ('"type": "exceed_context_size_error"', True),
        ("`inputs` tokens + `max_new_tokens` must be <= 2048", True),
        ("Prompt is too long", True),
        ("the prompt has 9 tokens too many", False),
        ("no context for this request", False),
    ],
)
def test_a_full_context_is_recognized_in_the_messages_of_many_servers(text, full):
    assert (CONTEXT_FULL.search(text) is not None) == full


@pytest.mark.parametrize(
    ("message", "names"),
    [("you asked for 512 in the completion", True), ("max_tokens is too large", True),
     ("`max_new_tokens` must be <= 9", True), ("the prompt has 9 tokens", False)],
)  # fmt: skip
def test_it_is_known_whether_a_shorter_answer_would_fit(message, names):
    assert ContextFullError(message).names_max_tokens == names
