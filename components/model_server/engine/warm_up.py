"""Computing tokens before there is traffic: weights are read from the disk, and batches are timed on the node."""

from __future__ import annotations

import time
from collections.abc import Sequence

from components.gguf.context import BatchItem, Context
from components.gguf.model import GgufModel
from components.gguf.sampling import Sampling
from components.model_server.engine.decode_batcher import DecodeBatcher
from components.model_server.engine.prefill_budget import PrefillBudget

WARM_UP_TOKENS = 8
LONGEST_CHUNK = 128
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
BATCH_REPEATS = 3
CHUNK_REPEATS = 2


def warm_up(model: GgufModel, budget: PrefillBudget, batcher: DecodeBatcher) -> None:
    """Compute some tokens, then measure prefill chunks and decode batches; all slots are empty afterwards."""
    hello = model.tokenize("Hello there", special=False, begin=True)
    for _, _ in zip(range(WARM_UP_TOKENS), model.generate(hello, Sampling()), strict=False):
        pass
    measure_chunks(model.context, budget, hello, min(LONGEST_CHUNK, model.n_ctx))
    measure_batches(model.context, batcher, hello[0], min(BATCH_REPEATS, model.n_ctx))
    for seq_id in range(model.context.n_parallel):
        model.context.seq_rm(seq_id)


def measure_chunks(context: Context, budget: PrefillBudget, tokens: Sequence[int], longest: int) -> None:
    """Time prefill chunks; the faster of two counts, for a size that seems too slow once is not tried again."""
    for size in (size for size in budget.sizes if size <= longest):
        seconds = []
        for _ in range(CHUNK_REPEATS):
            context.seq_rm(0)
            started = time.monotonic()
            chunk = (list(tokens) * (size // len(tokens) + 1))[:size]
            context.decode([BatchItem(0, chunk, 0, [False] * size)])
            seconds.append(time.monotonic() - started)
        budget.learn(size, min(seconds), pos=0)
    context.seq_rm(0)


def measure_batches(context: Context, batcher: DecodeBatcher, token: int, repeats: int) -> None:
    """Time batches of one token from each of several slots; the fastest counts, for neighbours only ever add to it."""
    for size in sorted({size for size in BATCH_SIZES if size < context.n_parallel} | {context.n_parallel}):
        for seq_id in range(size):
            context.seq_rm(seq_id)
        seconds = []
        for pos in range(repeats):
            started = time.monotonic()
            context.decode([BatchItem(seq_id, [token], pos, [True]) for seq_id in range(size)])
            seconds.append(time.monotonic() - started)
        batcher.learn(size, min(seconds))
