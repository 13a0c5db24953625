"""Slots and the prefix cache: what a new prompt shares with what was computed before."""

from __future__ import annotations

import pytest

from components.model_server.engine.prefix_cache import PrefixCache, common_prefix_length
from components.model_server.engine.slots import Slots
from tests.components.model_server.engine.echo_model import EchoContext

LONG = list(range(100, 140))


def fill(slots: Slots, context: EchoContext, tokens: list[int]) -> int:
    """Compute ``tokens`` in a slot, as a scheduler does, and release it; how many were shared."""
    slot = slots.acquire(tokens)
    assert context.cache[slot.seq_id] == slot.tokens == tokens[: len(slot.tokens)]
    n_shared = len(slot.tokens)
    context.cache[slot.seq_id] += tokens[n_shared:]
    slot.tokens += tokens[n_shared:]
    slots.release(slot)
    return n_shared


def test_the_last_token_of_a_prompt_is_never_shared():
    context = EchoContext(2, 64)
    slots = Slots(context, PrefixCache(10_000))
    assert fill(slots, context, LONG) == 0
    assert fill(slots, context, LONG) == len(LONG) - 1


def test_a_sequence_that_left_its_slot_comes_back_from_the_prefix_cache():
    context = EchoContext(1, 64)
    slots = Slots(context, PrefixCache(10_000))
    other = list(range(200, 240))
    fill(slots, context, LONG)
    fill(slots, context, other)
    assert slots._prefix_cache.n_bytes == 4 * len(LONG)
    assert fill(slots, context, [*LONG, 7]) == len(LONG)
    assert fill(slots, context, [*other, 8]) == len(other)


def test_the_prefix_cache_is_bounded_and_the_least_recently_used_goes_first():
    context = EchoContext(1, 64)
    slots = Slots(context, PrefixCache(2 * 4 * len(LONG)))
    chats = [list(range(1000 * n, 1000 * n + len(LONG))) for n in range(1, 5)]
    for chat in chats:
        fill(slots, context, chat)
    assert slots._prefix_cache.n_bytes <= 2 * 4 * len(LONG)
    assert slots.n_cached([*chats[0], 1]) == 0
    assert slots.n_cached([*chats[2], 1]) == len(LONG)
    assert slots.n_cached([*chats[3], 1]) == len(LONG)


def test_a_slot_in_use_is_copied_and_never_given_to_another():
    context = EchoContext(2, 64)
    slots = Slots(context, PrefixCache(0))
    first = slots.acquire(LONG)
    context.cache[first.seq_id] += LONG
    first.tokens += LONG
    second = slots.acquire([*LONG[:30], 5])
    assert second.seq_id != first.seq_id
    assert second.tokens == LONG[:30] == context.cache[second.seq_id]
    assert first.tokens == LONG == context.cache[first.seq_id]
    assert slots.n_free == 0


def test_without_a_prefix_cache_only_the_slots_keep_anything():
    context = EchoContext(1, 64)
    slots = Slots(context, PrefixCache(0))
    fill(slots, context, LONG)
    fill(slots, context, list(range(200, 240)))
    assert slots._prefix_cache.n_bytes == 0
    assert fill(slots, context, LONG) == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 2, 3], [1, 9, 3], 1), ([5], [6], 0)],
)
def test_common_prefix_length(one, other, expected):
    assert common_prefix_length(one, other) == common_prefix_length(other, one) == expected
