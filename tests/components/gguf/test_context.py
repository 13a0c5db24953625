"""llama.cpp's context: what is computed can be ended in the middle, and what was there before still counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from components.gguf.context import Abort, AbortedError, BatchItem, Context
from components.gguf.model import GgufModel

TOKENS = [5 + n % 200 for n in range(120)]


@pytest.fixture(scope="module")
def context(tiny_run) -> Iterator[Context]:
    model = GgufModel(tiny_run.model, n_ctx=256, n_parallel=2)
    yield model.context
    model.close()


def items(seq_id: int, begin: int, end: int) -> list[BatchItem]:
    """Tokens of one sequence, with logits after the last."""
    return [BatchItem(seq_id, TOKENS[begin:end], begin, [*[False] * (end - begin - 1), True])]


def test_what_is_aborted_ends_early_and_what_was_there_before_still_counts(context):
    (index,) = context.decode(items(0, 0, 60))
    (index,) = context.decode(items(0, 60, 120))
    undisturbed = context.logits(index).copy()
    context.decode(items(1, 0, 60))
    abort = Abort()
    abort.request()
    with pytest.raises(AbortedError, match="the computation was ended"):
        context.decode(items(1, 60, 120), abort)
    assert context.seq_rm(1, 60)
    (index,) = context.decode(items(1, 60, 120), Abort())
    assert np.array_equal(context.logits(index), undisturbed)
    (index,) = context.decode([BatchItem(0, [7], 120, [True])])
    assert np.isfinite(context.logits(index)).all()
    for seq_id in (0, 1):
        context.seq_rm(seq_id)


def test_another_thread_ends_what_is_computed(context):
    """Whoever computes holds no lock of Python: the request arrives in the middle."""
    abort = Abort()
    asking = threading.Timer(0.2, abort.request)
    asking.start()
    deadline = time.monotonic() + 60

    def compute() -> None:
        while time.monotonic() < deadline:
            context.decode(items(0, 0, 120), abort)
            context.seq_rm(0)

    with pytest.raises(AbortedError):
        compute()
    asking.join()
    context.seq_rm(0)
