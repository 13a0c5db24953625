"""Into how many batches the decode tokens of a step are split, from seconds that are measured."""

from __future__ import annotations

from components.model_server.engine.decode_batcher import DecodeBatcher


def test_tokens_are_split_into_the_batches_that_are_faster_together():
    batcher = DecodeBatcher()
    assert batcher.sizes(8) == [8]
    for n_tokens, seconds in {1: 0.027, 2: 0.045, 4: 0.075, 8: 0.206, 16: 0.25}.items():
        batcher.learn(n_tokens, seconds)
    assert batcher.sizes(8) == [4, 4]
    assert batcher.sizes(16) == [16]
    assert batcher.sizes(4) == [4]
    assert sum(batcher.sizes(11)) == 11


def test_a_few_percent_are_noise_and_split_nothing():
    batcher = DecodeBatcher()
    for n_tokens, seconds in {1: 0.03, 4: 0.098, 8: 0.2}.items():
        batcher.learn(n_tokens, seconds)
    assert batcher.sizes(8) == [8]


def test_a_size_between_two_that_were_measured_is_expected_between_them():
    batcher = DecodeBatcher()
    for n_tokens, seconds in {1: 0.02, 4: 0.05, 8: 0.5}.items():
        batcher.learn(n_tokens, seconds)
    assert batcher.sizes(6) == [4, 1, 1], "0.275 s are expected of one batch, and 0.09 s of three"
    assert batcher.sizes(3) == [3], "0.04 s are expected of one batch, and 0.06 s of three"


def test_beyond_what_was_measured_nothing_is_split():
    batcher = DecodeBatcher()
    batcher.learn(1, 0.01)
    batcher.learn(4, 0.9)
    assert batcher.sizes(5) == [5]
    batcher = DecodeBatcher()
    batcher.learn(4, 0.01)
    assert batcher.sizes(3) == [3]


def test_a_new_measurement_moves_the_average_a_little():
    batcher = DecodeBatcher()
    for n_tokens, seconds in {1: 0.01, 2: 0.02, 4: 0.04}.items():
        batcher.learn(n_tokens, seconds)
    batcher.learn(4, 0.05)  # a neighbour, once: 0.041 s on average
    assert batcher.sizes(4) == [4]
    for _ in range(20):
        batcher.learn(4, 0.05)
    assert batcher.sizes(4) in ([2, 2], [2, 1, 1], [1, 1, 2], [1, 2, 1], [1, 1, 1, 1])
