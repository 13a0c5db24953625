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
