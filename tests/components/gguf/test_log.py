"""llama.cpp's log: errors for a message, warnings for whoever listens, and nothing printed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.gguf import log
from components.gguf.log import CONTINUED, ERROR, WARNING, captured_warnings, last_errors

INFO = 2


@pytest.fixture(autouse=True)
def no_errors() -> Iterator[None]:
    """Errors of other tests are not of these."""
    last_errors()
    yield
    last_errors()


def llama_logs(level: int, text: str) -> None:
    """What llama.cpp does when it logs."""
    log._keep(level, text.encode(), None)


def test_the_last_three_errors_make_one_line_and_are_given_once():
    for text in ("one\n", "two:\n  more of two\n", "three\n", "four\n"):
        llama_logs(ERROR, text)
    assert last_errors() == "two: more of two; three; four"
    assert last_errors() == "it gives no reason"


def test_bytes_that_are_no_text_are_shown_as_such():
    log._keep(ERROR, b"half \xe2\x82 a sign", None)
    assert last_errors() == "half \ufffd a sign"


def test_warnings_are_heard_only_within_the_context_with_the_parts_that_continue_them():
    llama_logs(WARNING, "before")
    with captured_warnings() as outer, captured_warnings() as inner:
        llama_logs(WARNING, "one ")
        llama_logs(CONTINUED, "and its rest\n")
        llama_logs(INFO, "not a warning")
        llama_logs(ERROR, "an error")
    llama_logs(WARNING, "after")
    assert outer == inner == ["one ", "and its rest\n"]
    assert last_errors() == "an error"


def test_a_context_that_fails_hears_nothing_afterwards():
    def fail() -> None:
        with captured_warnings() as heard:
            parts.append(heard)
            raise KeyError

    parts: list[list[str]] = []
    with pytest.raises(KeyError):
        fail()
    llama_logs(WARNING, "later")
    assert parts == [[]]
