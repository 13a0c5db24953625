"""What a model thinks before it answers: text between ``<think>`` and ``</think>``, told apart from the answer."""

from __future__ import annotations

import re

OPEN, CLOSE = "<think>", "</think>"
_OPENED = re.compile(rf"{OPEN}\s*\Z")


def before_reasoning(prompt: str) -> str | None:
    """A prompt up to where it opens thoughts, as the generation prompt of DeepSeek-R1's distilled models does; None
    where it ends otherwise."""
    opened = _OPENED.search(prompt)
    return None if opened is None else prompt[: opened.start()]


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """Thoughts and answer of what an assistant wrote; thoughts are None where it has none, or empty ones.

    ``opened`` says that the prompt ended within thoughts. What is never closed is all thoughts.
    """
    begun = text.lstrip()
    if begun.startswith(OPEN):
        begun = begun.removeprefix(OPEN)
    elif not opened:
        return None, text
    thoughts, _, answer = begun.partition(CLOSE)
    return thoughts.strip() or None, answer.lstrip()
