"""How far a request is, in tokens."""

from __future__ import annotations

from typing import Any

import pytest

from components.model_server.engine.interface import Delta, Request, TokenLogprob
from components.model_server.engine.sequence import TokenSequence
from components.model_server.engine.slots import Slot


def sequence(sent: list[Delta | Exception] | None = None, **settings: Any) -> TokenSequence:
    """One with a prompt of five tokens."""
    return TokenSequence(
        request=Request(prompt="hello", **settings), prompt=[1, 2, 3, 4, 5], max_tokens=9, arrived=0.0, deadline=60.0,
        put=[].append if sent is None else sent.append,
    )  # fmt: skip


def test_what_is_left_of_a_prompt_is_what_no_slot_holds():
    one = sequence()
    assert one.n_prompt_left == 5
    one.n_cached = 3
    assert one.n_prompt_left == 2
    one.slot = Slot(0, tokens=[1])
    assert one.n_prompt_left == 4, "once it has a slot, the slot says how far it is"
    one.slot.tokens = [1, 2, 3, 4, 5]
    assert one.n_prompt_left == 0


def test_log_probabilities_go_with_the_next_text():
    sent: list[Delta | Exception] = []
    one, logprob = sequence(sent), TokenLogprob("a", b"a", -1.0)
    one.logprobs.append(logprob)
    one.send("")
    assert sent == []
    one.send("ab")
    one.send("c")
    assert sent == [Delta("ab", logprobs=[logprob]), Delta("c", logprobs=[])]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({}, False), ({"echo": True}, False), ({"top_logprobs": 0}, False), ({"echo": True, "top_logprobs": 0}, True)],
    ids=str,
)
def test_a_prompts_log_probabilities_are_wanted_where_it_is_echoed_with_them(settings, wanted):
    assert sequence(**settings).wants_prompt_logprobs is wanted


def test_a_client_that_goes_away_cancels_its_own_sequence_only():
    one, other = sequence(), sequence()
    one.abort.request()
    assert (one.cancelled, other.cancelled) == (True, False)


def test_a_sequence_is_no_other_one_with_the_same_request():
    request = Request(prompt="hello")
    same = [TokenSequence(request, [1], 1, 0.0, 1.0, print) for _ in range(2)]
    assert same[0] != same[1]
    assert same[0].logprobs is not same[1].logprobs
