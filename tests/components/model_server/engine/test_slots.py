"""Slots and the prefix cache: what a new prompt shares with what was computed before."""

from __future__ import annotations

import random

from components.model_server.engine.prefix_cache import PrefixCache
from components.model_server.engine.slots import MIN_COPIED_TOKENS, Slot, Slots
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


def in_use(slots: Slots, context: EchoContext, tokens: list[int]) -> Slot:
    """A slot that holds ``tokens`` and is not released."""
    slot = slots.acquire(tokens)
    context.cache[slot.seq_id] += tokens[len(slot.tokens) :]
    slot.tokens += tokens[len(slot.tokens) :]
    return slot


def test_a_short_beginning_is_not_worth_a_copy():
    context = EchoContext(2, 64)
    slots = Slots(context, PrefixCache(10_000))
    in_use(slots, context, LONG)
    few = slots.acquire([*LONG[:MIN_COPIED_TOKENS], 7])
    assert few.tokens == []
    slots.release(few)
    enough = LONG[: MIN_COPIED_TOKENS + 1]
    assert slots.acquire([*enough, 7]).tokens == enough


def test_an_empty_slot_is_taken_before_a_long_sequence_is_cut():
    context = EchoContext(2, 64)
    slots = Slots(context, PrefixCache(0))
    fill(slots, context, LONG)
    second = slots.acquire([*LONG[:10], 7])
    assert second.tokens == LONG[:10]
    assert sorted(map(len, context.cache)) == [10, len(LONG)], "the first is whole, and was copied from"


def test_the_slot_that_was_used_longest_ago_is_overwritten():
    context = EchoContext(3, 64)
    slots = Slots(context, PrefixCache(0))
    chats = [list(range(1000 * n, 1000 * n + 20)) for n in range(1, 4)]
    for chat in chats:
        fill(slots, context, chat)
    fill(slots, context, [*chats[0], 5])
    fill(slots, context, list(range(9000, 9020)))
    assert [slots.n_cached([*chat, 1]) for chat in chats] == [20, 0, 20]


def test_a_sequence_that_another_one_begins_with_is_not_copied():
    context = EchoContext(2, 64)
    cache = PrefixCache(10_000)
    slots = Slots(context, cache)
    fill(slots, context, LONG[:20])
    in_use(slots, context, [*LONG, 1])
    fill(slots, context, list(range(900, 920)))
    assert cache.n_bytes == 0


def test_what_an_aborted_computation_left_is_removed():
    context = EchoContext(1, 64)
    slots = Slots(context, PrefixCache(0))
    slot = in_use(slots, context, LONG)
    context.cache[0] += [1, 2, 3]
    slots.drop_uncommitted(slot)
    assert context.cache[0] == slot.tokens == LONG
    context.removes_all_or_nothing = True
    context.cache[0] += [1, 2, 3]
    slots.drop_uncommitted(slot)
    assert context.cache[0] == slot.tokens == []


def test_a_slot_that_is_cleared_holds_nothing_and_shares_nothing():
    context = EchoContext(1, 64)
    slots = Slots(context, PrefixCache(10_000))
    slot = in_use(slots, context, LONG)
    slots.clear(slot)
    slots.release(slot)
    assert (context.cache[0], slots.n_cached(LONG), slots.n_free) == ([], 0, 1)


def test_a_state_that_llama_refuses_leaves_an_empty_slot(monkeypatch):
    context = EchoContext(2, 64)
    slots = Slots(context, PrefixCache(10_000))
    in_use(slots, context, LONG)
    monkeypatch.setattr(context, "state_seq_set", lambda seq_id, state: context.seq_rm(seq_id) and False)
    second = slots.acquire([*LONG, 7])
    assert (second.tokens, context.cache[second.seq_id]) == ([], [])


def test_whatever_comes_a_slot_holds_what_its_tokens_say():
    draw = random.Random(6)
    for _ in range(40):
        context = EchoContext(draw.randrange(1, 5), 64)
        context.removes_all_or_nothing = draw.random() < 0.2
        cache = PrefixCache(draw.choice([0, 200, 10_000]))
        slots, running = Slots(context, cache), []
        for _ in range(60):
            if slots.n_free == 0 or (running and draw.random() < 0.3):
                slots.release(running.pop(draw.randrange(len(running))))
                continue
            prompt = draw.choices(range(2), k=draw.randrange(1, 30))
            expected = slots.n_cached(prompt)
            slot = slots.acquire(prompt)
            n_shared = len(slot.tokens)
            assert slot.tokens == prompt[:n_shared]
            assert n_shared < len(prompt)
            if not context.removes_all_or_nothing:
                assert expected - MIN_COPIED_TOKENS <= n_shared <= expected
            context.cache[slot.seq_id] += prompt[n_shared:]
            slot.tokens += prompt[n_shared:]
            running.append(slot)
            assert [context.cache[slot.seq_id] for slot in slots._slots] == [slot.tokens for slot in slots._slots]
            assert len({slot.seq_id for slot in running}) == len(running)
            assert cache.n_bytes <= cache.max_bytes
