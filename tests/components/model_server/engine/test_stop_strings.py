"""Text that is cut before the first stop string, however tokens split it."""

from __future__ import annotations

import random

import pytest

from components.model_server.engine.stop_strings import StopStringFilter


def filtered(pieces: list[bytes], stop: list[str]) -> tuple[str, bool]:
    """What is sent of the pieces, and whether a stop string has come."""
    text = StopStringFilter(stop)
    sent = ""
    for piece in pieces:
        sent += text.feed(piece)
        if text.stopped:
            break
    return sent + text.rest(), text.stopped


@pytest.mark.parametrize(
    ("pieces", "stop", "expected", "stopped"),
    [
        (["ab", "cd"], [], "abcd", False),
        (["ab", "cd"], ["bc"], "a", True),
        (["ab", "cd"], ["dx"], "abcd", False),
        (["one ", "EN", "D two"], ["END"], "one ", True),
        (["x", "y", "z"], ["yz", "z"], "x", True),
        (["ab"], [""], "ab", False),
        (["aab"], ["b", "ab"], "a", True),
        ([b"\xc3", b"\xa9!"], ["!"], "é", True),
        ([b"\xc3"], [], "", False),
        (["abcd"], ["abcd", "bc"], "a", True),
    ],
)
def test_stop_strings_are_cut_wherever_tokens_split_them(pieces, stop, expected, stopped):
    assert filtered([p if isinstance(p, bytes) else p.encode() for p in pieces], stop) == (expected, stopped)


def test_any_split_of_a_text_sends_what_comes_before_the_first_stop_string():
    draw = random.Random(4)
    for _ in range(500):
        text = "".join(draw.choices("abé", k=draw.randrange(12)))
        stop = ["".join(draw.choices("abé", k=draw.randrange(1, 4))) for _ in range(draw.randrange(3))]
        content, pieces = text.encode(), []
        while content:
            n = draw.randrange(1, 4)
            pieces.append(content[:n])
            content = content[n:]
        found = [(text.find(string) + len(string), text.find(string)) for string in stop if string in text]
        expected = (text[: min(found)[1]], True) if found else (text, False)
        assert filtered(pieces, stop) == expected, (text, stop, pieces)


def test_only_what_may_begin_a_stop_string_is_held_back():
    text = StopStringFilter(["END", "never"])
    assert [text.feed(piece.encode()) for piece in ("one E", "N", "E ne", "x")] == ["one ", "", "ENE ", "nex"]
    assert (text.rest(), text.stopped) == ("", False)
