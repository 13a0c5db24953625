"""What is measured before there is traffic, and what is left of it."""

from __future__ import annotations

import pytest

from components.model_server.engine.decode_batcher import DecodeBatcher
from components.model_server.engine.prefill_budget import PrefillBudget
from components.model_server.engine.warm_up import BATCH_REPEATS, CHUNK_REPEATS, LONGEST_CHUNK, warm_up
from tests.components.model_server.engine.echo_model import EchoModel


class Learned(DecodeBatcher, PrefillBudget):
    """Notes what it learns."""

    def __init__(self, n_batch: int) -> None:
        PrefillBudget.__init__(self, itl_seconds=0.1, idle_itl_seconds=0.1, n_batch=n_batch)
        self.sizes_learned: list[int] = []

    def learn(self, n_tokens: int, seconds: float, *, pos: int = 0) -> None:  # type: ignore[override]
        assert seconds >= 0
        self.sizes_learned.append(n_tokens)


def warmed(*, n_parallel: int, n_ctx: int = 512, n_batch: int = 512) -> tuple[EchoModel, list[int], list[int]]:
    """The model afterwards, and the sizes of prompts and of batches that were learned."""
    model = EchoModel(n_parallel=n_parallel, n_ctx=n_ctx, n_batch=n_batch)
    chunks, batches = Learned(n_batch), Learned(n_batch)
    warm_up(model, chunks, batches)  # type: ignore[arg-type]
    return model, chunks.sizes_learned, batches.sizes_learned


@pytest.mark.parametrize(
    ("n_parallel", "sizes"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 3, 4, 6, 8]), (9, [1, 2, 3, 4, 6, 8, 9])]
)
def test_batches_are_timed_up_to_one_token_of_every_slot(n_parallel, sizes):
    model, _, batches = warmed(n_parallel=n_parallel)
    assert batches == sizes
    timed = [step for step in model.context.steps if all(len(item.tokens) == 1 for item in step)]
    assert len(timed) == BATCH_REPEATS * len(sizes)


@pytest.mark.parametrize(
    ("n_ctx", "n_batch", "longest"), [(512, 512, LONGEST_CHUNK), (64, 512, 64), (512, 32, 32)], ids=str
)
def test_chunks_are_timed_as_long_as_context_and_batch_allow(n_ctx, n_batch, longest):
    model, chunks, _ = warmed(n_parallel=1, n_ctx=n_ctx, n_batch=n_batch)
    assert chunks == sorted(set(chunks))
    assert max(chunks) == longest
    timed = [item for step in model.context.steps for item in step if len(item.tokens) > 1]
    assert [len(item.tokens) for item in timed] == [size for size in chunks for _ in range(CHUNK_REPEATS)]
    assert all(item.pos == 0 for item in timed)


def test_all_slots_are_empty_afterwards():
    model, _, _ = warmed(n_parallel=5)
    assert model.context.cache == [[]] * 5
