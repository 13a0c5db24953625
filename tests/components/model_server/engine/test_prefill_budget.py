"""The size of prefill chunks, from costs that are measured."""

from __future__ import annotations

from components.model_server.engine.prefill_budget import PrefillBudget


def test_a_chunk_is_the_largest_that_keeps_the_latency_and_the_costs_are_learned():
    budget = PrefillBudget(itl_seconds=0.3, idle_itl_seconds=1.0, n_batch=512)
    for size in (16, 32, 64, 128):
        budget.learn(size, size * 0.003, pos=0)
    assert budget.n_tokens(decode_seconds=0.06, pos=0) == 64
    assert budget.n_tokens(decode_seconds=None, pos=0) == 256
    for _ in range(20):  # a neighbour has come
        budget.learn(64, 0.4, pos=0)
        budget.learn(32, 0.2, pos=0)
        budget.learn(16, 0.1, pos=0)
    assert budget.n_tokens(decode_seconds=0.06, pos=0) == 32


def test_prefill_gets_as_long_as_decode_where_decode_alone_takes_longer_than_the_latency():
    budget = PrefillBudget(itl_seconds=0.3, idle_itl_seconds=1.0, n_batch=512)
    for size in (16, 32, 64, 128):
        budget.learn(size, size * 0.003, pos=0)
    assert budget.n_tokens(decode_seconds=0.5, pos=0) == 128


def test_a_crowd_of_prompts_lets_the_latency_grow_up_to_that_of_an_idle_server():
    budget = PrefillBudget(itl_seconds=0.3, idle_itl_seconds=1.0, n_batch=512)
    for size in (16, 32, 48, 64, 96, 128, 256):
        budget.learn(size, size * 0.003, pos=0)
    assert [budget.n_tokens(decode_seconds=0.06, pos=0, n_prefilling=n) for n in (1, 2, 4, 99)] == [64, 128, 128, 256]


def test_a_smaller_chunk_is_taken_where_its_tokens_cost_clearly_less():
    budget = PrefillBudget(itl_seconds=0.5, idle_itl_seconds=1.0, n_batch=512)
    for size, seconds in ((16, 0.1), (32, 0.2), (48, 0.3), (64, 0.44), (96, 0.7)):
        budget.learn(size, seconds, pos=0)
    assert budget.n_tokens(decode_seconds=0.05, pos=0) == 48


def test_far_into_a_prompt_a_chunk_is_a_whole_tile_whatever_it_costs():
    budget = PrefillBudget(itl_seconds=0.3, idle_itl_seconds=1.0, n_batch=512)
    for size in (16, 32, 64, 128):
        budget.learn(size, size * 0.009, pos=0)
    assert budget.n_tokens(decode_seconds=0.06, pos=0) == 16
    assert budget.n_tokens(decode_seconds=0.06, pos=2_500) == 64
    for _ in range(10):
        budget.learn(64, 0.05, pos=2_500)
        budget.learn(128, 0.1, pos=2_500)
    assert budget.n_tokens(decode_seconds=0.06, pos=2_500) == 256


def test_a_chunk_between_two_sizes_and_a_standing_clock_teach_nothing_wrong():
    budget = PrefillBudget(itl_seconds=0.3, idle_itl_seconds=1.0, n_batch=64)
    budget.learn(16, 0.16, pos=0)
    before = budget.n_tokens(decode_seconds=0.1, pos=0)
    budget.learn(17, 99.0, pos=0)
    assert budget.n_tokens(decode_seconds=0.1, pos=0) == before == 16
    for _ in range(20):
        budget.learn(16, 0.0, pos=0)
    assert budget.n_tokens(decode_seconds=0.1, pos=0) == 64


def test_a_chunk_is_never_larger_than_a_batch():
    for n_batch in (8, 16, 40, 512):
        budget = PrefillBudget(itl_seconds=99, idle_itl_seconds=99, n_batch=n_batch)
        assert max(budget.sizes) <= n_batch
        assert budget.n_tokens(decode_seconds=None, pos=0) == max(budget.sizes)
        assert budget.n_tokens(decode_seconds=None, pos=5000) == max(budget.sizes)


def test_where_no_size_fits_the_smallest_is_taken():
    budget = PrefillBudget(itl_seconds=0.01, idle_itl_seconds=0.01, n_batch=512)
    budget.learn(16, 3.0, pos=0)
    assert budget.n_tokens(decode_seconds=0.005, pos=0) == 16


def test_far_costs_are_guessed_from_near_ones_until_they_are_measured():
    budget = PrefillBudget(itl_seconds=1.0, idle_itl_seconds=1.0, n_batch=128)
    for size in (64, 96, 128):
        budget.learn(size, size * 0.02, pos=0)
    assert budget.n_tokens(decode_seconds=0.0, pos=2_000) == 64
    for _ in range(20):
        budget.learn(128, 0.1, pos=2_000)
    for _ in range(20):
        budget.learn(128, 128 * 0.02, pos=0)
    assert budget.n_tokens(decode_seconds=0.0, pos=2_000) == 128, "near costs say nothing any more"
